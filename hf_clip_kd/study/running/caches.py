"""One cache of a teacher for all objectives that read it on the same data."""

from __future__ import annotations

from typing import Any

from ...losses import requested, requested_by_all
from .objectives import Losses

EMBEDDINGS = "clip_kd"  # The cache of an objective that reads no tokens is written for these losses.


def cache_losses(objectives: dict[str, Losses]) -> dict[str, Any]:
    """
    Return the `losses` that `cache_teacher.py` gets for the cache of each objective.

    Objectives that read the same layers of the teacher share a cache, with all that read none. Other layers get a
    cache of their own.

    Args:
        objectives (`dict`): Name to losses, of all objectives that read one teacher on the same data.
    """
    groups: list[dict[str, Losses]] = []
    for name, losses in objectives.items():
        group = next((group for group in groups if _read_the_same([*group.values(), losses])), None)
        if group is None:
            groups.append(group := {})
        group[name] = losses
    return {name: _fewest(list(group.values())) for group in groups for name in group}


def _read_the_same(runs: list[Losses]) -> bool:
    return len({requested(losses).teacher_reads for losses in runs} - {()}) <= 1


def _fewest(runs: list[Losses]) -> Any:
    """Return as few of the losses as ask for all that the runs read."""
    kept: list[Losses] = []
    for losses in runs:
        if requested_by_all([*kept, losses]) != requested_by_all(kept):
            kept.append(losses)
    return kept[0] if len(kept) == 1 else kept or EMBEDDINGS
