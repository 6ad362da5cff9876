"""Version of the files that runs leave, so that no version of the package misreads those of another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .foreign import ForeignFileError

NAME = "format_version"
CURRENT = {"checkpoint": 3, "teacher cache": 3, "feature cache": 2, "result": 2, "study": 2}
"""
Version that is written now. Files of version 1 name none. Version 2 names it, and caches have checksums. Version 3 of
a teacher cache has one of its manifest, too, and that of a checkpoint has those of its files and of its mark.
"""


def stamped(record: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return a record with the version of its kind, an entry of `CURRENT`."""
    return {NAME: CURRENT[kind]} | record


def check_version(record: dict[str, Any], path: str | Path, kind: str) -> None:
    """
    Refuse a file of a later version of the package. All earlier versions are read.

    Args:
        record (`dict`): Content of the file.
        path (`str` or `Path`): The file, for the error.
        kind (`str`): An entry of `CURRENT`.

    Raises:
        ForeignFileError: The version is unknown.
    """
    version = record.get(NAME, 1)
    if version not in range(1, CURRENT[kind] + 1):
        raise ForeignFileError(
            path,
            f"it is a {kind} of the format version {version!r}",
            allowed=f"This version of hf_clip_kd reads the versions 1 to {CURRENT[kind]}.",
            fix="Install the version that wrote it: `pip install -U hf_clip_kd`, or make it anew with this version.",
        )
