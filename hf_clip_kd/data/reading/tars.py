"""Reader for tars of images and captions (WebDataset). A damaged part becomes a row with the reason."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
from collections.abc import Iterator
from typing import Any, BinaryIO

from datasets.packaged_modules.webdataset.webdataset import WebDataset, base_plus_ext

ERROR = "__error__"
"""Column with the reason why a row is unusable. [`CLIPDataCollator`] counts and names such a row."""

MAX_MEMBER = 2**28
"""Most bytes of a sample's files in a tar (256 MB), with their headers. No images and captions need more."""

_MAX_SIZE = 2**36  # A larger size is damage. `tarfile` would search for the end of such a file for hours.
_BUFFER = 2**18
_PACKED = {
    b"\x1f\x8b\x08": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ": lzma.LZMAFile,
    b"\x5d\x00\x00\x80": lzma.LZMAFile,
}
OBJECTS = ("json", "jsn", "mp", "msg", "cbor")
"""Endings of files in tars that hold objects of any form."""

_MAX_OBJECTS = 2**22  # A byte may stand for an object of 70.
_ZIPS = ("npz", "pth")  # Arrays in a zip, which may unpack to a thousand times its size. They stay bytes.
# Entries that hold the long name and the attributes of the next file, and their largest size.
_NAMES = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_MAX_NAMES = 2**20


class _Header(tarfile.TarInfo):
    """Header that reports damage. `tarfile` takes a damaged header, except the first, for the end of the tar."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> tarfile.TarInfo:
        header = super().frombuf(buf, encoding, errors)
        # `tarfile` reads such an entry at once. A packed tar of a megabyte may hold gigabytes of zeros.
        if header.type in _NAMES and header.size > _MAX_NAMES:
            raise tarfile.ReadError(f"a header claims {header.size:,} bytes for the name of a file")
        return header

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> tarfile.TarInfo:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # Zeros end every complete archive.
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error}, where a file or the end should be") from error


class Joined(io.RawIOBase):
    """A file whose first bytes were read already. A stream cannot go back."""

    def __init__(self, start: bytes, file: BinaryIO):
        self.start, self.file = start, file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:
        data, self.start = self.start[: len(buffer)], self.start[len(buffer) :]
        data = data or self.file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _unpacked(file: BinaryIO) -> BinaryIO:
    """Return the content of a tar that may be packed. `tarfile` unpacks 256 kB at once, which may be gigabytes."""
    start = file.read(tarfile.BLOCKSIZE)
    joined = io.BufferedReader(Joined(start, file), _BUFFER)
    return next((read(joined) for mark, read in _PACKED.items() if start.startswith(mark)), joined)


def read_tar(file: BinaryIO, name: str) -> Iterator[dict[str, Any]]:
    """Yield the samples of one tar: neighbouring files that share the name up to the first dot.

    Args:
        file (binary file): Tar, read once from start to end.
        name (`str`): Name of the tar.

    Yields:
        `dict`: `__key__`, `__url__`, `__error__` (`None`, or the reason why the sample is unusable), and the contents
        by extension. Contents are bytes, or the value that `datasets` decodes from `txt`, `json` and the like.

        A damaged tar ends with a row that has the tar's name and no contents. Its reason counts the samples before.
        The sample in which the damage lies is lost.
    """
    row, count, size = None, 0, 0
    try:
        with tarfile.open(fileobj=_unpacked(file), mode="r|", tarinfo=_Header, bufsize=_BUFFER) as archive:
            for member in archive:
                archive.members = []  # `tarfile` would keep every header in memory.
                if member.size > _MAX_SIZE:
                    raise tarfile.ReadError(f"{member.name!r} claims {member.size:,} bytes")
                key, field = base_plus_ext(member.name)
                if key is None or not member.isfile() or os.path.basename(member.name).startswith((".", "__")):
                    continue
                key = key.encode(errors="backslashreplace").decode()  # A name may be no Unicode.
                if row is None or row["__key__"] != key:
                    if row is not None:
                        yield row
                        count += 1
                    row, size = {"__key__": key, "__url__": name, ERROR: None}, 0
                # Headers and names take the memory if a sample has many small files.
                size += tarfile.BLOCKSIZE + member.size
                if size > MAX_MEMBER:
                    row = {name: value for name, value in row.items() if name in ("__key__", "__url__")}
                    row[ERROR] = f"its files up to {member.name!r} have {size:,} bytes: more than {MAX_MEMBER:,}"
                else:
                    _add(row, field.lower(), member, archive)
    except Exception as error:  # Decompressors and broken connections raise errors of many types.
        reason = f"the tar is damaged after {count} samples ({type(error).__name__}: {error})"
        yield {"__key__": name, "__url__": name, ERROR: reason}
        return
    if row is not None:
        yield row


def _add(row: dict[str, Any], field: str, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
    if field in row:
        row[ERROR] = f"two files {member.name!r} in the tar"
        return
    data = archive.extractfile(member).read()
    if len(data) < member.size:
        raise tarfile.ReadError(f"{member.name!r} is cut short")
    ending = field.rsplit(".")[-1]
    if ending in OBJECTS and member.size > _MAX_OBJECTS:
        row[field], row[ERROR] = None, f"{member.name!r} has {member.size:,} bytes: more than {_MAX_OBJECTS:,}"
        return
    decode = None if ending in _ZIPS else WebDataset.DECODERS.get(ending)
    try:
        row[field] = data if decode is None else decode(data)
    except Exception as error:  # Decoders of many formats raise errors of many types.
        row[field], row[ERROR] = None, f"{member.name!r} cannot be read ({type(error).__name__}: {error})"
