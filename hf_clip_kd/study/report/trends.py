"""Slopes: over the strength of the teacher, and over the length of the training."""

from __future__ import annotations

import functools

import numpy as np

from .cells import Study, outcomes, scores
from .metrics import CKA, QUESTION_PROBE, VQA, ZERO_SHOT, Metric
from .statistics import Estimate, contrast, slope_weights

# What is followed over teachers and over durations; likeness to different teachers is no trend.
OVER_TEACHERS = (ZERO_SHOT, VQA, QUESTION_PROBE)
OVER_DURATIONS = (*OVER_TEACHERS, *CKA.values())


@functools.cache
def teachers_slope(study: Study, metric: Metric) -> Estimate | None:
    """
    What the student gains, in units of the metric, with each point of its teacher's zero-shot accuracy.

    Least squares over the means of the teachers. The interval is that of other seeds (and questions) with these teachers:
    there is one of each strength, so what another of the same strength would do is not known. `None` for fewer than two.
    """
    sweep = study.main_sweep("teacher")
    known = {teacher: cells for teacher, cells in (sweep.cells if sweep else {}).items() if scores(cells, metric)}
    strengths = [study.strength(teacher) for teacher in known]
    return _slope(strengths, list(known.values()), metric)


def teachers_own_slope(study: Study, metric: Metric) -> float | None:
    """What the teachers of that sweep themselves gain with each point of zero-shot: as much as a student could follow."""
    sweep = study.main_sweep("teacher")
    pairs = [(study.strength(one), study.teacher_score(one, metric)) for one in (sweep.cells if sweep else {})]
    x, y = np.array([pair for pair in pairs if np.isfinite(pair).all()]).reshape(-1, 2).T
    return float(slope_weights(x) @ y) if len(x) > 1 and np.ptp(x) else None


@functools.cache
def doubling(study: Study, metric: Metric) -> Estimate | None:
    """What each doubling of the training adds, in units of the metric: least squares over the logarithm of the epochs."""
    sweep = study.main_sweep("duration")
    known = [cells for cells in (sweep.cells if sweep else {}).values() if scores(cells, metric)]
    return _slope(np.log2([cells[0]["epochs"] for cells in known]), known, metric)


def _slope(x, conditions: list[list[dict]], metric: Metric) -> Estimate | None:
    if len(conditions) < 2 or not np.isfinite(x).all() or not np.ptp(x):
        return None
    arrays = outcomes(conditions, metric)
    return contrast(arrays, slope_weights(x)) if arrays.size else None
