"""Name of a file that changes with its content, without a look at that."""

from __future__ import annotations

import os


def file_state(path: str) -> str:
    """Return a path with its file's size and time of change, as rsync compares them; without a file the path."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # a path with a null byte
        return path
    return f"{path} {found.st_size} {found.st_mtime_ns}"
