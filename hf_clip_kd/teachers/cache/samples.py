"""Samples: the index and the files of a finished cache, mapped into memory."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from . import shards


class Samples:
    """
    The samples of a finished cache by number and place. All processes of a machine share the mapped files.

    Args:
        folder (`Path`): Folder of the cache. [`shards.is_complete`] has compared its index.
        check_all (`bool`): Compare all files with their checksums here, and not before the first read of each.

    Attributes:
        ends (`list[int]`): Number of samples up to and including each shard.

    Raises:
        ForeignFileError: A file is damaged.
    """

    def __init__(self, folder: Path, check_all: bool):
        self.folder, self._checked = folder, check_all
        self._open_index(check=False)
        if check_all:
            for number in range(len(self.ends)):
                shards.load(shards.shard_path(folder, number), check=True)

    def _open_index(self, check: bool) -> None:
        index = shards.load(self.folder / shards.INDEX, check=check)
        self.ids, self._places = index["ids"].numpy(), index["places"].numpy()
        self.ends = index["ends"].tolist()
        self._open: dict[int, dict[str, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def __getstate__(self) -> dict[str, Any]:
        # A spawned worker maps the files itself. Otherwise all mapped data would be copied to it.
        return {"folder": self.folder, "_checked": self._checked}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open_index(check=True)

    def find(self, number: int, texts: Mapping[str, int]) -> int | None:
        """Find the place of a sample, see [`~hf_clip_kd.TeacherCache.find`]."""
        first, last = self.ids.searchsorted(number), self.ids.searchsorted(number, side="right")
        places = map(int, self._places[first:last])
        return next((place for place in places if not texts or self._has(place, texts)), None)

    def _has(self, place: int, texts: Mapping[str, int]) -> bool:
        shard, row = self.shard(place)
        # Caches of older versions know a sample by its image and captions alone.
        return all(int(shard[name][row]) == number for name, number in texts.items() if name in shard)

    def shard(self, place: int) -> tuple[dict[str, Tensor], int]:
        """Return the tensors of the file of a sample, and its row there."""
        number = bisect_right(self.ends, place)
        if number not in self._open:
            self._open[number] = shards.load(shards.shard_path(self.folder, number), check=not self._checked)
        return self._open[number], place - (self.ends[number - 1] if number else 0)
