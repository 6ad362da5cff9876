"""Kinds of files by others: how a good folder of each is written, and the reader of the package."""

from . import benchmarks, caches, captions, models, pictures, runs
from .kind import Kind

__all__ = ["KINDS", "Kind"]

KINDS = {
    name: kind for room in (benchmarks, pictures, captions, models, caches, runs) for name, kind in room.KINDS.items()
}
