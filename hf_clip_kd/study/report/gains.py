"""Gains over the student alone, against the seconds of a student's training."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

from ..cells.cells import Study
from ..cells.metrics import Metric
from ..estimates.comparison import NO_TEACHER
from ..estimates.equal_time import all_lengths, seconds_of
from ..estimates.objective_results import strongest
from ..estimates.objectives import Group, several
from ..estimates.outcomes import estimate
from ..estimates.statistics import Estimate


@dataclass(frozen=True)
class Gain:
    """One objective after one length of training."""

    seconds: float = field(metadata={"help": "Median seconds of a student's training."})
    gain: Estimate = field(metadata={"help": "Mean score less that of the student alone; the lower, the worse."})


@functools.cache
def gains(study: Study, group: Group, metric: Metric) -> dict[str, list[Gain]]:
    """
    Return the gains of each objective with one teacher, and of the student alone, the shortest training first.

    The teacher is the strongest of those with which the base objective was trained to most lengths. All gains are over
    the student alone that is trained as long as the group. Lengths without measured seconds are left out.
    """
    base = group.taught[several(group)[0]]
    most = max(len(all_lengths(study, cells)) for cells in base.values())
    longest = {name: cells for name, cells in base.items() if len(all_lengths(study, cells)) == most}
    shown = strongest(study, group, longest, metric)
    taught = {
        objective: (
            next((name for name in cells if study.lifted_from(name) == shown), strongest(study, group, cells, metric)),
            cells,
        )
        for objective, cells in group.taught.items()
    }
    rows = {NO_TEACHER: group.alone} if group.alone else {}
    rows |= {objective: cells[teacher] for objective, (teacher, cells) in taught.items() if teacher is not None}
    rows |= dict(list(group.untaught.items())[1:])
    found = {}
    for name, cells in rows.items() if group.alone else ():
        points = [
            Gain(seconds, gain)
            for length in all_lengths(study, cells)
            if (seconds := seconds_of(length)) is not None and (gain := _gain(length, group.alone, metric)) is not None
        ]
        if points:
            found[name] = sorted(points, key=lambda point: point.seconds)
    return found


def _gain(cells: list[dict], alone: list[dict], metric: Metric) -> Estimate | None:
    weights = [metric.better(-1.0), metric.better(1.0)]
    return estimate([alone, cells], metric, weights)
