"""Files inside of a Qt resource file (`.rcc`)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from ...recipe_io.foreign import ForeignFileError

_COMPRESSED, _FOLDER = 1, 2
_MAX_CONTENT = 2**28  # Bytes of an unpacked file at most.


def read_qt_resources(path: Path) -> Iterator[tuple[str, bytes]]:
    """
    Yield the path and the content of each file in a Qt resource file.

    The format is that of Qt's own writer, `rcc`, in versions 1 to 3. A tree of nodes of fixed size points to names
    in UTF-16 and to contents. Contents may be compressed with zlib.

    Raises:
        ForeignFileError: if the file is no such file, or is cut off.
    """
    try:
        data = path.read_bytes()
        if data[:4] != b"qres":
            raise ValueError("it does not begin with `qres`")
        yield from _Resources(data).files()
    except (OSError, ValueError, IndexError, RecursionError, struct.error, zlib.error) as error:
        form = "It must be a Qt resource file, whole."
        fix = "Unpack the package that holds it anew."
        raise ForeignFileError(path, f"it cannot be read ({error})", allowed=form, fix=fix) from error


class _Resources:
    def __init__(self, data: bytes):
        self.data = data
        version, self.tree, self.contents, self.names = struct.unpack_from(">4I", data, 4)
        self.node_size = 14 if version == 1 else 22  # Later versions end with a time.
        self.met: set[int] = set()

    def files(self, node: int = 0, folder: str = "") -> Iterator[tuple[str, bytes]]:
        # A folder that two folders share would be read again and again, in a chain of them for ever.
        if node in self.met:
            raise ValueError("a file or folder of it stands in two folders")
        self.met.add(node)
        start = self.tree + node * self.node_size
        name, flags = struct.unpack_from(">IH", self.data, start)
        path = folder + self._name(name) if node else ""
        if flags & _FOLDER:
            count, first = struct.unpack_from(">II", self.data, start + 6)
            for child in range(first, first + count):
                yield from self.files(child, f"{path}/" if path else "")
        else:
            (content,) = struct.unpack_from(">I", self.data, start + 10)
            yield path, self._content(self.contents + content, bool(flags & _COMPRESSED))

    def _name(self, offset: int) -> str:
        start = self.names + offset
        (length,) = struct.unpack_from(">H", self.data, start)
        return self.data[start + 6 : start + 6 + 2 * length].decode("utf-16-be")

    def _content(self, start: int, compressed: bool) -> bytes:
        (length,) = struct.unpack_from(">I", self.data, start)
        content = self.data[start + 4 : start + 4 + length]
        if len(content) < length:
            raise ValueError("a content is cut off")
        if not compressed:
            return content
        # The size of the whole stands before the compressed bytes.
        packed = zlib.decompressobj()
        unpacked = packed.decompress(content[4:], _MAX_CONTENT)
        if not packed.eof:
            raise ValueError(f"a content is cut off, or unpacks to more than {_MAX_CONTENT:,} bytes")
        return unpacked
