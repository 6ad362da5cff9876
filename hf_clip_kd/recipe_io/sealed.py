"""Records with a checksum of their own values, for files that say what other files hold."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

from .checked_tensors import CHECKSUM
from .foreign import ForeignFileError
from .format_version import NAME, stamped

SINCE = 3
"""Format version from which on such a record has a checksum."""


def sealed(record: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return a record with the version of its kind, an entry of `format_version.CURRENT`, and a checksum of it all."""
    record = stamped(record, kind)
    return record | {CHECKSUM: _checksum(record)}


def check_seal(record: dict[str, Any], path: str | Path, *, allowed: str, fix: str) -> None:
    """
    Refuse a record that is not what was written.

    Args:
        record (`dict`): Content of the file.
        path (`str` or `Path`): The file, for the error.
        allowed, fix (`str`): Sentences of the error, see [`ForeignFileError`].

    Raises:
        ForeignFileError: The checksum is another, or a record of version 3 or later has none.
    """
    if CHECKSUM not in record and record.get(NAME, 1) < SINCE:
        return
    stored, found = record.get(CHECKSUM), _checksum(record)
    if stored != found:
        problem = f"its checksum is {found!r}, and {stored!r} was written"
        raise ForeignFileError(path, problem, allowed=allowed, fix=fix)


def _checksum(record: dict[str, Any]) -> str:
    """Return the CRC-32 of a record without its checksum, as text. It finds accidents, and stops no attacker."""
    kept = {name: value for name, value in record.items() if name != CHECKSUM}
    return f"{zlib.crc32(json.dumps(kept, sort_keys=True, default=str).encode()):08x}"
