"""Compare the features in a cache with the same, computed again."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor


def largest_difference(path: Path, stored: dict[str, Tensor], fresh: dict[str, Tensor], tolerance: float) -> float:
    """
    Measure the largest distance of an embedding in a shard from its twin.

    Args:
        path (`Path`): Path of the shard, for the error.
        stored, fresh (`dict[str, Tensor]`): A shard, and some of its rows in order, computed again.
        tolerance (`float`): Largest distance that is allowed, as a share of the norm.

    Returns:
        `float`: The largest distance, as a share of the norm.

    Raises:
        ValueError: It is above `tolerance`, or the rows or their crops are not those of the shard.
    """
    rows = len(fresh["ids"])
    start = _start(stored, fresh)
    worst = 0.0
    for name, values in fresh.items():
        if name.endswith("answer_ids"):
            continue  # Answers of nearly equal probability may change places.
        there = stored.get(name, values[:0])
        if name.endswith("text_ends"):
            there, values = (
                there.diff(prepend=there.new_zeros(1))[start : start + rows],
                values.diff(prepend=values.new_zeros(1)),
            )
        elif "text_embeds" in name:
            ends = stored[f"{name.split('.')[1].removesuffix('_embeds')}_ends"]
            first = int(ends[start - 1]) if start else 0
            there = there[first : first + len(values)]
        else:
            there = there[start : start + rows]
        if there.shape != values.shape or (not values.is_floating_point() and not torch.equal(there, values)):
            raise ValueError(_changed(path, name, "are others"))
        if values.is_floating_point():
            there, values = there.float(), values.float()
            difference = float(((there - values).norm(dim=-1) / values.norm(dim=-1)).max())
            # A `>` would let pass what is not a number.
            if not difference <= tolerance:
                raise ValueError(_changed(path, name, f"differ by {difference:.3g} of their norm"))
            worst = max(worst, difference)
    return worst


def _start(stored: dict[str, Tensor], fresh: dict[str, Tensor]) -> int:
    """Return the position of the rows in a shard, which may hold a sample twice, or 0 without them."""
    rows = len(fresh["ids"])
    starts = (stored["ids"] == fresh["ids"][0]).nonzero().flatten().tolist()
    same = [start for start in starts if torch.equal(stored["ids"][start : start + rows], fresh["ids"])]
    # Each place in the data draws crops of its own.
    drawn = [start for start in same if torch.equal(stored["boxes"][start : start + rows], fresh["boxes"])]
    return next(iter([*drawn, *same]), 0)


def _changed(path: Path, name: str, how: str) -> str:
    return (
        f"{path} is not what the teachers say now: its `{name}` {how}. They must come out again, up to rounding, from "
        "the same data, teachers and libraries. Delete this file and run recipes/cache_teacher.py again."
    )
