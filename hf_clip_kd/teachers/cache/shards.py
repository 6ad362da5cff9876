"""The files of a cache: each stands under its name only when it is whole, so a kill at any moment leaves no torn one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save as serialized
from torch import Tensor

INDEX = "index.safetensors"


def shard_path(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:06d}.safetensors"


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a temporary name beside `path`, and rename what it wrote."""
    temporary = path.with_name(path.name + ".tmp")
    write(temporary)
    os.replace(temporary, path)


def save(path: Path, tensors: dict[str, Tensor]) -> None:
    # Not `save_file`: a kill would leave its temporary file, which has another name each time.
    data = serialized({name: tensor.contiguous() for name, tensor in tensors.items()})
    write_whole(path, lambda temporary: temporary.write_bytes(data))


def load(path: Path) -> dict[str, Tensor]:
    """All tensors of a file, mapped into memory: only what is indexed is read."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def finished(folder: Path) -> bool:
    """Whether the index and all shards it speaks of are there."""
    if not (folder / INDEX).is_file():
        return False
    return all(shard_path(folder, number).is_file() for number in range(len(load(folder / INDEX)["ends"])))


def save_index(folder: Path, shards: int) -> None:
    """
    Write the table by which samples are found, the mark of a finished cache.

    It holds `ids` of all samples in ascending order, `places` (where each stands when shards are laid end to end) and
    `ends`, the number of samples up to and including each shard.
    """
    ids = [load(shard_path(folder, number))["ids"] for number in range(shards)]
    ends = torch.tensor([len(part) for part in ids], dtype=torch.int64).cumsum(0)
    ids, places = torch.cat(ids).sort(stable=True)
    save(folder / INDEX, {"ids": ids, "places": places, "ends": ends})
