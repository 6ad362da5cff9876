"""Readers of files that somebody else wrote: text, JSON, JSON lines, YAML. All faults are one kind of error."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any

import yaml

_ENCODINGS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_LFS_POINTER = "version https://git-lfs"
_HALF_PAIR = re.compile("[\ud800-\udfff]")
_ESCAPED_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|NaN|-?Infinity')
_KINDS = {dict: "a mapping", list: "a list", str: "a text", int: "a number", float: "a number", bool: "true or false"}


class ForeignFileError(ValueError):
    """
    Fault of a file that somebody else wrote.

    The message names the file, the line or the sample, what is wrong, what is allowed, and the fix.

    Args:
        path (`str` or `Path`): File.
        problem (`str`): Words that say what is wrong, without a period.
        allowed (`str`): Sentence that says what the file must hold.
        fix (`str`): Sentence that says what to do.
        where (`str`, *optional*): Place in the file: `"line 3"`, `"question 'a'"`.
    """

    def __init__(self, path: str | Path, problem: str, *, allowed: str, fix: str, where: str = ""):
        place = f"{path}, {where}" if where else str(path)
        super().__init__(" ".join(part for part in (f"{place}: {problem}.", allowed, fix) if part))
        self.path, self.where = Path(path), where


def kind_of(value: Any) -> str:
    """Return the words for the type of a JSON value: `"a list"`, `"null"`."""
    return "null" if value is None else _KINDS.get(type(value), f"a {type(value).__name__}")


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
    path = Path(path)
    if not path.exists():
        raise ForeignFileError(path, "there is no such file", allowed=allowed, fix=fix)
    if path.is_dir():
        raise ForeignFileError(path, "it is a folder, not a file", allowed=allowed, fix=fix)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ForeignFileError(path, f"it cannot be read ({error.strerror})", allowed=allowed, fix=fix) from error
    return decode(data, path, allowed=allowed, fix=fix)


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

    def fault(problem: str, line: int | None, fix: str) -> ForeignFileError:
        place = ", ".join(part for part in (where, line and f"line {line}") if part)
        return ForeignFileError(path, problem, allowed=allowed, fix=fix, where=place)

    if packed := next((name for start, name in _PACKED.items() if data.startswith(start)), None):
        raise fault(f"it is packed with {packed}", None, "Unpack it first.")
    encoding = next((name for mark, name in _ENCODINGS.items() if data.startswith(mark)), "utf-8-sig")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = len(re.findall(r"\r\n|\r|\n", data[: error.start].decode(encoding, errors="ignore"))) + 1
        problem = f"the byte {data[error.start]:#04x} is no {encoding.upper().removesuffix('-SIG')}"
        raise fault(problem, line, "Save it as UTF-8.") from error
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        line = _line(text, text.index("\0"))
        raise fault("it has a zero byte, so it is damaged or no text", line, "Save it as UTF-8, or get it again.")
    if text.startswith(_LFS_POINTER):
        raise fault("it is a pointer of Git LFS, not the file itself", None, "Fetch the file with `git lfs pull`.")
    return text


def read_json(path: str | Path, kind: type | tuple[type, ...] = dict, *, allowed: str, fix: str) -> Any:
    """
    Read a JSON file.

    Args:
        path (`str` or `Path`): File.
        kind (`type` or tuple of types, *optional*, defaults to `dict`): Types that the whole content may have.
        allowed, fix (`str`): As in [`read_text`].

    Raises:
        ForeignFileError: As in [`read_text`] and [`parse_json`], or the content is of another type.
    """
    content = parse_json(read_text(path, allowed=allowed, fix=fix), path, allowed=allowed, fix=fix)
    if not isinstance(content, kind):
        kinds = " or ".join(kind_of(each()) for each in (kind if isinstance(kind, tuple) else (kind,)))
        raise ForeignFileError(path, f"it holds {kind_of(content)}, not {kinds}", allowed=allowed, fix=fix)
    return content


def read_json_lines(path: str | Path, *, allowed: str, fix: str) -> Iterator[tuple[int, Any]]:
    """
    Read a file with one JSON value on each line.

    Yields:
        The number of the line, from 1, and its value. Empty lines are left out.

    Raises:
        ForeignFileError: As in [`read_text`] and [`parse_json`]. The message names the line.
    """
    text = read_text(path, allowed=allowed, fix=fix)
    for number, line in enumerate(text.split("\n"), start=1):
        # Files that were joined have a byte order mark at the start of a line.
        if line := line.strip(" \t\ufeff"):
            yield number, parse_json(line, path, where=f"line {number}", allowed=allowed, fix=fix)


def parse_json(text: str, path: str | Path, *, allowed: str, fix: str, where: str = "") -> Any:
    """
    Parse the text of a file as JSON.

    Args:
        text (`str`): JSON, from [`read_text`] or [`decode`].
        path (`str` or `Path`): File that holds the text, for errors.
        allowed, fix (`str`): As in [`read_text`].
        where (`str`, *optional*): Place of the text in the file, for errors: a line, or the name of a member.

    Raises:
        ForeignFileError:
            The text is empty or no JSON, names a key twice, or nests too deep. JSON has no `NaN` and no `Infinity`. A
            half of a surrogate pair, such as `"\\ud83d"`, is no text: no file can hold it.
    """

    def fault(problem: str, position: int | None = None) -> ForeignFileError:
        place = where or ("" if position is None else f"line {_line(text, position)}")
        return ForeignFileError(path, problem, allowed=allowed, fix=fix, where=place)

    if not text.strip():
        raise fault("it is empty")
    try:
        content = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise fault(f"it is no JSON ({error.msg})", error.pos) from error
    except RecursionError as error:
        raise fault("it nests too deep") from error
    except _NoConstantError as error:
        raise fault(f"it has {error}, which JSON does not have", _find(text, lambda token: token[0] != '"')) from error
    except _TwiceError as error:
        raise fault(f"the key {error.args[0]!r} stands twice in {shorten(str(error.args[1]), 80)}") from error
    # Python reads no integer of more than 4300 digits.
    except ValueError as error:
        raise fault(f"it has a number that is too long ({error})") from error
    if _ESCAPED_HALF.search(text):
        position = _find(text, lambda token: _ESCAPED_HALF.search(token) and _HALF_PAIR.search(json.loads(token)))
        if position is not None:
            raise fault("a text has half of a surrogate pair, which no file can hold", position)
    return content


def read_yaml(path: str | Path, *, allowed: str, fix: str) -> dict[str, Any]:
    """
    Read a YAML file that holds a mapping, with safe types only.

    Returns:
        `dict`; empty for an empty file.

    Raises:
        ForeignFileError: As in [`read_text`], or the file is no YAML, or holds no mapping.
    """
    text = read_text(path, allowed=allowed, fix=fix)
    try:
        with yaml_faults(path, allowed=allowed, fix=fix):
            content = yaml.safe_load(text)
    # A date such as 2026-13-01 is read by Python.
    except ForeignFileError:
        raise
    except ValueError as error:
        raise ForeignFileError(path, f"it has a wrong value ({error})", allowed=allowed, fix=fix) from error
    if not isinstance(content, dict | None):
        raise ForeignFileError(path, f"it holds {kind_of(content)}, not a mapping", allowed=allowed, fix=fix)
    if _ESCAPED_HALF.search(text) and any(_HALF_PAIR.search(word) for word in _texts(content)):
        where = f"line {_line(text, _ESCAPED_HALF.search(text).start())}"
        problem = "a text has half of a surrogate pair, which no file can hold"
        raise ForeignFileError(path, problem, allowed=allowed, fix=fix, where=where)
    return content or {}


@contextmanager
def yaml_faults(path: str | Path, *, allowed: str, fix: str) -> Iterator[None]:
    """Turn every fault that `yaml` finds in the text of a file into a [`ForeignFileError`] with its line."""
    try:
        yield
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = f"it is no YAML ({' '.join(str(getattr(error, 'problem', None) or error).split())})"
        where = f"line {mark.line + 1}" if mark else ""
        raise ForeignFileError(path, problem, allowed=allowed, fix=fix, where=where) from error
    except RecursionError as error:
        raise ForeignFileError(path, "it nests too deep", allowed=allowed, fix=fix) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(next(name for name in names if names.count(name) > 1), made)
    return made


def _no_constant(name: str) -> None:
    raise _NoConstantError(name)


class _NoConstantError(Exception):
    pass


class _TwiceError(Exception):
    pass


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in [*value, *value.values()] if isinstance(value, dict) else value:
            yield from _texts(part)


def _find(text: str, chosen: Callable[[str], Any]) -> int | None:
    """Return the position of the first string or constant of a JSON text that is `chosen`."""
    return next((found.start() for found in _TOKEN.finditer(text) if chosen(found[0])), None)


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
