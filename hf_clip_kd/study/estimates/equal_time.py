"""Students at equal training time: a score between two lengths of training, at the seconds of another student."""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import median

from ..cells.cells import Study
from ..cells.merge import blended

SLOWER = 1.1  # A training may last so many times as long as the longest one that it is compared with.


def seconds_of(cells: Iterable[dict]) -> float | None:
    """Return the median seconds of the students' own training, `None` if they were not measured.

    A machine is busy with other work now and then, and a mean would count that for a training.
    """
    found = [value for cell in cells if (value := (cell.get("seconds") or {}).get("student")) is not None]
    return median(found) if found else None


def all_lengths(study: Study, like: list[dict]) -> list[list[dict]]:
    """Return the cells that differ from these in the length of the training and the seed only, for each length."""
    same = {axis: value for axis, value in like[0]["axes"].items() if axis not in ("duration", "seed", "vlm_seed")}
    found: dict[str, list[dict]] = {}
    for cell in study.cells:
        if all(cell["axes"].get(axis) == value for axis, value in same.items()):
            found.setdefault(cell["axes"]["duration"], []).append(cell)
    return list(found.values())


def at_seconds(lengths: Iterable[list[dict]], seconds: float | None) -> list[dict] | None:
    """
    Return the cells that a training of so many seconds would leave, on the line between the two nearest lengths.

    Scores lie on a line over the logarithm of the seconds. If even the shortest training takes longer, it counts as it
    is. It had more time, which speaks against its opponent.

    Args:
        lengths (`Iterable[list[dict]]`): Cells of each length.
        seconds (`float`, *optional*): Seconds of the student's training.

    Returns:
        `list[dict]`: A cell for each seed. `None` if the seconds are unknown, or far beyond those of the longest.
    """
    known = sorted(((own, cells) for cells in lengths if (own := seconds_of(cells))), key=lambda pair: pair[0])
    if seconds is None or not known or seconds > SLOWER * known[-1][0]:
        return None
    for own, cells in known:
        if own == seconds:
            return cells
    for (low, short), (high, long) in zip(known, known[1:], strict=False):
        if low < seconds < high:
            share = math.log(seconds / low) / math.log(high / low)
            longer = {cell["axes"]["seed"]: cell for cell in long}
            pairs = [(cell, longer[cell["axes"]["seed"]]) for cell in short if cell["axes"]["seed"] in longer]
            return [blended(first, second, share) for first, second in pairs]
    return known[0][1] if seconds < known[0][0] else known[-1][1]
