"""Weights that change at given shares of a training."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

RAMP = "ramp"


@dataclass(frozen=True)
class Schedule:
    """
    A weight over a training: constant, or with another value from each of several shares of the steps on.

    Args:
        points (`tuple[tuple[float, float], ...]`):
            Share of the steps and weight of each point. Shares rise from 0, and are at most 1.
        ramp (`bool`): Weights between two points lie on a straight line. Otherwise that of the earlier point holds.
    """

    points: tuple[tuple[float, float], ...]
    ramp: bool = False

    def at(self, share: float) -> float:
        """Return the weight at a share of the steps: 0 at the first step, 1 at the end."""
        number = bisect_right([start for start, _ in self.points], share)
        start, weight = self.points[number - 1]
        if not self.ramp or number == len(self.points):
            return weight
        end, later = self.points[number]
        return weight + (later - weight) * (share - start) / (end - start)

    def scaled(self, factor: float) -> Schedule:
        """Return this schedule with all weights times `factor`."""
        return Schedule(tuple((share, weight * factor) for share, weight in self.points), self.ramp)

    @property
    def peak(self) -> float:
        """The largest weight. It is 0 for a weight that is never on."""
        return max(weight for _, weight in self.points)

    @property
    def changes(self) -> bool:
        """True if the weight is not the same in the whole training."""
        return len({weight for _, weight in self.points}) > 1

    @property
    def plain(self) -> float | dict[Any, Any]:
        """The form in which a user writes it: a number, `{0.0: 2.0, 0.5: 0.5}` or `{"ramp": {...}}`."""
        if not self.changes:
            return self.points[0][1]
        return {RAMP: dict(self.points)} if self.ramp else dict(self.points)

    def __str__(self) -> str:
        if not self.changes:
            return f"{self.points[0][1]:g}"
        values = ", ".join(f"{weight:g} at {100 * share:g} %" for share, weight in self.points)
        return f"{values} of the steps{', linear between' if self.ramp else ''}"


def read_weight(weight: Any, owner: str = "a teacher", fix: str = "Write for example `weight: 1.0`.") -> Schedule:
    """
    Read a weight: a number, a mapping of shares of the steps to numbers, or `{"ramp": MAPPING}` for straight lines.

    Args:
        weight (`float`, `dict` or [`Schedule`]): The weight as a user wrote it. Shares and numbers may be text.
        owner (`str`), fix (`str`): What has this weight, and what to write instead, for the error.

    Raises:
        ValueError: if a weight is not a finite number of at least 0.
        ValueError: if the shares do not begin at 0, or are above 1.
    """
    if isinstance(weight, Schedule):
        return weight
    ramp = isinstance(weight, Mapping) and list(weight) == [RAMP]
    values = weight[RAMP] if ramp else weight
    points = dict(values) if isinstance(values, Mapping) else {0.0: values}
    points = sorted((_number(share), _number(value)) for share, value in points.items())
    shares = [share for share, _ in points]
    fault = None
    if not all(math.isfinite(number) and number >= 0 for point in points for number in point):
        fault = "It must be a finite number of at least 0"
    elif not points or shares[0] > 0 or shares[-1] > 1 or len(set(shares)) < len(shares):
        fault = "Its shares must begin at 0, differ, and be at most 1"
    if fault is not None:
        raise ValueError(
            f"The weight {weight!r} of {owner} is not allowed. {fault}, and 0 leaves it out. A mapping such as "
            f"`{{0: 2.0, 0.5: 0.5}}` gives weights from shares of the steps on. {fix}"
        )
    return Schedule(tuple(points), ramp)


def _number(value: Any) -> float:
    try:
        # YAML reads "1e8" as a string, and JSON has no other keys. float() accepts both.
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):  # The last is for a whole number that no float can hold.
        return math.nan


def first_weights(weights: Iterable[Any]) -> tuple[float, ...]:
    """Return the weights at the start of a run, each as [`read_weight`] reads it."""
    return tuple(read_weight(weight).at(0.0) for weight in weights)


def phases(schedules: Iterable[Schedule]) -> list[float]:
    """Return shares of the steps, at least one from each phase in which the same weights are above 0."""
    schedules = list(schedules)
    shares = sorted({0.0, *(share for schedule in schedules for share, _ in schedule.points)})
    if any(schedule.ramp for schedule in schedules):
        shares += [(first + second) / 2 for first, second in pairwise(shares)]
    return sorted(shares)
