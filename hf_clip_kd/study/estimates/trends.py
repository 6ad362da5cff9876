"""Slopes over the strength of the teacher and over the length of the training."""

from __future__ import annotations

import functools

import numpy as np

from ..cells.cells import Study, scores
from ..cells.metrics import AREA, BITS, CKA, QUESTION_PROBE, VQA, ZERO_SHOT, Metric
from .outcomes import estimate
from .statistics import Estimate, slope_weights

# Metrics with trends over teachers and over durations. CKA with different teachers has no trend.
OVER_TEACHERS = (ZERO_SHOT, VQA, BITS, AREA, QUESTION_PROBE)
OVER_DURATIONS = (*OVER_TEACHERS, *CKA.values())


@functools.cache
def doubling(study: Study, metric: Metric) -> Estimate | None:
    """Return the gain of each doubling of the training, in units of the metric (least squares over log2 of steps)."""
    sweep = study.main_sweep("duration")
    known = [cells for cells in (sweep.cells if sweep else {}).values() if scores(cells, metric)]
    return _slope(np.log2([cells[0]["steps"] for cells in known]), known, metric)


def _slope(x, conditions: list[list[dict]], metric: Metric) -> Estimate | None:
    if len(conditions) < 2 or not np.isfinite(x).all() or not np.ptp(x):
        return None
    return estimate(conditions, metric, slope_weights(x))
