"""Text of any encoding that names itself, and of any line ends."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

from .fault import ForeignFileError

_ENCODINGS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_LFS_POINTER = b"version https://git-lfs"
_HEAD = 64


def read_text(path: str | Path, *, allowed: str, fix: str) -> str:
    r"""
    Read a text file.

    The text is UTF-8, or UTF-16 or UTF-32 with a byte order mark. The mark is removed. The line ends `\r\n` and `\r`
    become `\n`. Split with `split("\n")`: `splitlines` also splits at signs that JSON and prose have inside a line.

    Args:
        path (`str` or `Path`): File.
        allowed (`str`): Sentence that says what the file must hold, for errors.
        fix (`str`): Sentence that says what to do if the file is wrong, for errors.

    Raises:
        ForeignFileError: The file does not exist, is a folder, is packed, or is not such a text.
    """
    with _opened(path, allowed, fix) as file:
        data = file.read()
    return decode(data, path, allowed=allowed, fix=fix)


def read_lines(path: str | Path, *, allowed: str, fix: str) -> Iterator[str]:
    """Read the lines of a text file, without their ends, and hold only the current line in memory."""
    words = {"allowed": allowed, "fix": fix}
    with _opened(path, **words) as file:
        encoding = _encoding(file.read(_HEAD), path, **words)
    try:
        with open(path, encoding=encoding) as lines:
            for number, line in enumerate(lines, start=1):
                if "\0" in line:
                    raise _zero_byte(path, f"line {number}", allowed)
                yield line.rstrip("\n")
    except UnicodeDecodeError:
        # The decoder is ahead of the lines. The whole text knows the line of the wrong byte.
        read_text(path, **words)


def decode(data: bytes, path: str | Path, *, allowed: str, fix: str, where: str = "") -> str:
    """
    Decode bytes as [`read_text`] does.

    Args:
        data (`bytes`): The content of the file, or of a member of an archive.
        path (`str` or `Path`): File that holds the bytes, for errors.
        allowed, fix (`str`): As in [`read_text`].
        where (`str`, *optional*): Place of the bytes in the file, for errors: the name of a member.

    Raises:
        ForeignFileError: The bytes are not such a text.
    """

    def place(line: int) -> str:
        return ", ".join(part for part in (where, f"line {line}") if part)

    encoding = _encoding(data[:_HEAD], path, allowed=allowed, fix=fix, where=where)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = len(re.findall(r"\r\n|\r|\n", data[: error.start].decode(encoding, errors="ignore"))) + 1
        problem = f"the byte {data[error.start]:#04x} is no {encoding.upper().removesuffix('-SIG')}"
        raise ForeignFileError(path, problem, allowed=allowed, fix="Save it as UTF-8.", where=place(line)) from error
    # A file that was saved twice by an editor has the mark twice.
    text = text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        raise _zero_byte(path, place(line_of(text, text.index("\0"))), allowed)
    return text


def line_of(text: str, position: int) -> int:
    """Return the number of the line, from 1, in which a position of a text lies."""
    return text.count("\n", 0, position) + 1


def _opened(path: str | Path, allowed: str, fix: str):
    try:
        return open(path, "rb")
    except FileNotFoundError:
        problem = "there is no such file"
    except IsADirectoryError:
        problem = "it is a folder, not a file"
    except OSError as error:
        problem = f"it cannot be read ({error.strerror})"
    raise ForeignFileError(path, problem, allowed=allowed, fix=fix)


def _encoding(head: bytes, path: str | Path, *, allowed: str, fix: str, where: str = "") -> str:
    if packed := next((name for start, name in _PACKED.items() if head.startswith(start)), None):
        problem, fix = f"it is packed with {packed}", "Unpack it first."
    elif head.startswith(_LFS_POINTER):
        problem, fix = "it is a pointer of Git LFS, not the file itself", "Fetch the file with `git lfs pull`."
    else:
        return next((name for mark, name in _ENCODINGS.items() if head.startswith(mark)), "utf-8-sig")
    raise ForeignFileError(path, problem, allowed=allowed, fix=fix, where=where)


def _zero_byte(path: str | Path, where: str, allowed: str) -> ForeignFileError:
    problem = "it has a zero byte, so it is damaged or no text"
    return ForeignFileError(path, problem, allowed=allowed, fix="Save it as UTF-8, or get it again.", where=where)
