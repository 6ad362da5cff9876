"""Slopes over the strength of the teacher and over the length of the training."""

from __future__ import annotations

import functools

import numpy as np

from .cells import Study, scores
from .metrics import AREA, BITS, CKA, QUESTION_PROBE, VQA, ZERO_SHOT, Metric
from .outcomes import estimate
from .statistics import Estimate, slope_weights

# Metrics with trends over teachers and over durations. CKA with different teachers has no trend.
OVER_TEACHERS = (ZERO_SHOT, VQA, BITS, AREA, QUESTION_PROBE)
OVER_DURATIONS = (*OVER_TEACHERS, *CKA.values())


@functools.cache
def teachers_slope(study: Study, metric: Metric) -> Estimate | None:
    """
    Return the student's gain, in units of the metric, for each point of its teacher's zero-shot accuracy.

    The slope is a least-squares fit over the means of the teachers; fewer than two give `None`. The interval covers
    other seeds (and questions) with these teachers. It does not cover other teachers of the same strength.
    """
    sweep = study.main_sweep("teacher")
    known = {teacher: cells for teacher, cells in (sweep.cells if sweep else {}).items() if scores(cells, metric)}
    strengths = [study.strength(teacher) for teacher in known]
    return _slope(strengths, list(known.values()), metric)


def teachers_own_slope(study: Study, metric: Metric) -> float | None:
    """Return the gain of that sweep's teachers themselves for each point of zero-shot: a limit for their students."""
    sweep = study.main_sweep("teacher")
    teachers = sweep.cells if sweep else {}
    pairs = [(study.strength(teacher), study.teacher_score(teacher, metric)) for teacher in teachers]
    x, y = np.array([pair for pair in pairs if np.isfinite(pair).all()]).reshape(-1, 2).T
    return float(slope_weights(x) @ y) if len(x) > 1 and np.ptp(x) else None


@functools.cache
def doubling(study: Study, metric: Metric) -> Estimate | None:
    """Return the gain of each doubling of the training, in units of the metric (least squares over log2 of epochs)."""
    sweep = study.main_sweep("duration")
    known = [cells for cells in (sweep.cells if sweep else {}).values() if scores(cells, metric)]
    return _slope(np.log2([cells[0]["epochs"] for cells in known]), known, metric)


def _slope(x, conditions: list[list[dict]], metric: Metric) -> Estimate | None:
    if len(conditions) < 2 or not np.isfinite(x).all() or not np.ptp(x):
        return None
    return estimate(conditions, metric, slope_weights(x))
