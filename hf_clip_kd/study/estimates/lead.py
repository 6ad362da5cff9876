"""Share of a teacher's lead over the student alone that arrives in the student."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np

from ..cells.cells import Study, condition
from ..cells.metrics import Metric
from ..cells.towers import own_record, towers_of
from .outcomes import estimate, outcomes
from .statistics import Estimate, with_variance


@functools.cache
def shares(study: Study, metric: Metric) -> dict[tuple, Estimate | None]:
    """
    Return condition -> share of its teacher's lead that arrives, of each condition with a teacher.

    The share is (student - alone) / (teacher - alone): 0 for a student no better than alone, 1 for its teacher's
    equal. The student alone has the same size, data, duration and reading.

    Returns:
        `dict[tuple, Estimate | None]`: By the values of [`AXES`]. `None` where the teacher's lead is not clear.
        A condition is missing without a student alone or without a score of the teacher.
    """
    groups: dict[tuple, list[dict]] = {}
    for cell in study.cells:
        if cell["axes"]["teacher"] is not None:
            groups.setdefault(condition(cell), []).append(cell)
    found, leads = {}, {}
    for key, cells in groups.items():
        axes = cells[0]["axes"]
        alone, own = study.without_teacher(axes), own_record(study.record, axes)
        if not alone or metric.of(own) is None or all(metric.of(cell) is None for cell in cells):
            continue
        pair = condition(alone[0]), axes["teacher"]
        if pair not in leads:
            leads[pair] = lead_over(own, alone, metric)
        found[key] = share_of(study.record, axes, cells, alone, metric, leads[pair])
    return found


def lead_over(teacher: dict[str, Any], alone: list[dict], metric: Metric) -> Estimate | None:
    """Return what a teacher's own score is more than that of the student alone."""
    return estimate([alone, beside(teacher, alone)], metric, [-1, 1])


def share_of(
    record: dict[str, Any],
    axes: dict[str, Any],
    student: list[dict],
    alone: list[dict],
    metric: Metric,
    lead: Estimate | None,
) -> Estimate | None:
    """
    Return the share of a teacher's lead over the student alone that arrives in some students ([`share`]).

    The teacher has a language model of its own for each VLM seed that it was read with. Its score is the mean over
    them, and the interval covers the luck of such trainings. With one seed nothing is known of it.

    Args:
        record (`dict`): The content of `study.json`.
        axes (`dict`): `teacher`, and how it is read.
        lead ([`Estimate`], *optional*): Estimate of teacher - alone, see [`lead_over`].
    """
    found = share(student, alone, beside(own_record(record, axes), student), metric, lead)
    readings = towers_of(record, "teacher", axes["teacher"], axes.get("reading"), axes.get("language_model"))
    scores = [score for tower in readings if (score := metric.of(tower)) is not None]
    if found is None or lead is None or len(scores) < 2:
        return found
    # The share falls by itself over the lead with each unit that the teacher is better.
    variance = (found.value / lead.value) ** 2 * np.var(scores, ddof=1) / len(scores)
    return with_variance(found, float(variance), len(scores) - 1)


def share(
    student: list[dict], alone: list[dict], teacher: list[dict], metric: Metric, lead: Estimate | None
) -> Estimate | None:
    """
    Return the share of a lead with its interval, by the delta method on the paired scores.

    With `r` the share, the mean of student - (1 - r) alone - r teacher is zero. Its error over the lead is that of
    `r`. This holds while the lead is many times its own error.

    Args:
        student, alone, teacher (`list[dict]`): Cells of each, paired by their seeds.
        lead ([`Estimate`], *optional*): Estimate of teacher - alone.

    Returns:
        `Estimate | None`: `None` if the interval of the teacher's lead holds zero, or the teacher is worse.
    """
    if lead is None or metric.better(lead.value) <= 0 or lead.low <= 0 <= lead.high:
        return None
    conditions = [student, alone, teacher]
    scores = outcomes(conditions, metric).scores
    if not scores.size:
        return None
    own, base, best = scores.mean(axis=(1, 2))
    value = float((own - base) / (best - base))
    line = estimate(conditions, metric, [1, value - 1, -value])
    error, reach = ((number / abs(best - base)) for number in (line.error, line.high - line.value))
    return replace(
        line, value=value, low=float(value - reach), high=float(value + reach), p_value=np.nan, error=float(error)
    )


def beside(teacher: dict[str, Any], cells: list[dict]) -> list[dict]:
    """Return the teacher once for each seed of the cells: all of them meet the same one."""
    return [teacher | {"axes": cell["axes"]} for cell in cells]
