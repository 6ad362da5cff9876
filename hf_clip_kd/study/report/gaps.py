"""Difference that a second teacher makes, under each of several conditions, and how much of it a condition brings."""

from __future__ import annotations

from ...hub.cards.markdown import Markdown, code, table
from ..cells.cells import Study
from ..cells.metrics import QUESTION_PROBE, ZERO_SHOT
from ..estimates.outcomes import estimate
from .sentences import with_bounds


def gap_table(study: Study) -> Markdown | None:
    """
    Return what the second of two teachers brings more than the first, for each objective, duration or data mix.

    The difference is paired by seed, and by question for VQA. Beside it stands the difference to the same difference
    of the first condition. It is free of the two teachers' own luck, which all conditions share.

    Returns:
        `Markdown`: `None` unless the study has two teachers, and both under several conditions.
    """
    names = list(study.record["config"].get("teachers") or ())
    place = {id(cell): number for number, cell in enumerate(study.cells)}
    sweeps = [sweep for sweep in study.sweeps("teacher") if set(sweep.cells) == set(names)]
    sweeps.sort(key=lambda sweep: min(place[id(cell)] for cells in sweep.cells.values() for cell in cells))
    if len(names) != 2 or len(sweeps) < 2:
        return None
    metrics = list(dict.fromkeys((ZERO_SHOT, study.meter, QUESTION_PROBE)))
    groups = [[sweep.cells[name] for name in names] for sweep in sweeps]
    rows = []
    for sweep, group in zip(sweeps, groups, strict=True):
        row = [code(sweep.label(sweeps))]
        for metric in metrics:
            beyond = None if group is groups[0] else estimate([*groups[0], *group], metric, [1, -1, -1, 1])
            digits = 1 if metric.percent else 2
            row += [with_bounds(found, digits) for found in (estimate(group, metric, [-1, 1]), beyond)]
        rows.append(row)
    header = [part for metric in metrics for part in (metric.title, f"against {code(sweeps[0].label(sweeps))}")]
    return table(["students", *map(Markdown, header)], rows)


__all__ = ["gap_table"]
