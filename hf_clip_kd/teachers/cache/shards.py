"""Files of a cache: each gets its name only when it is whole, so a kill leaves no torn one."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ...recipe_io.checked_tensors import read_tensors, write_tensors

INDEX = "index.safetensors"
_FIX = "Delete this file and run recipes/cache_teacher.py again with the same arguments: it computes that part anew."


def shard_path(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:06d}.safetensors"


def load(path: Path, check: bool = False) -> dict[str, Tensor]:
    """
    Map all tensors of a file into memory, see [`read_tensors`].

    Raises:
        ForeignFileError: The file is damaged. Flipped bits are only found with `check`.
    """
    return read_tensors(path, fix=_FIX, check=check)


def is_complete(folder: Path) -> bool:
    """Tell if the index and all of its shards are there."""
    if not (folder / INDEX).is_file():
        return False
    shards = len(load(folder / INDEX, check=True)["ends"])
    return all(shard_path(folder, number).is_file() for number in range(shards))


def count_samples(folder: Path, shards: int) -> int:
    """Return the number of samples in the first so many shards."""
    return sum(len(load(shard_path(folder, number))["ids"]) for number in range(shards))


def save_index(folder: Path, shards: int) -> None:
    """
    Write the index, which finds samples and marks a finished cache.

    It holds the `ids` of all samples in ascending order. `places` are their positions if shards are laid end to end.
    `ends` is the number of samples up to and including each shard.
    """
    ids = [load(shard_path(folder, number))["ids"] for number in range(shards)]
    ends = torch.tensor([len(part) for part in ids], dtype=torch.int64).cumsum(0)
    ids, places = torch.cat(ids).sort(stable=True)
    write_tensors(folder / INDEX, {"ids": ids, "places": places, "ends": ends})
