"""Numbers of a report for programs: to quote, or to compare another study with their intervals."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from .cells import Study
from .comparison import Score, compare
from .figures.probes import ranked
from .metrics import Metric
from .statistics import Estimate
from .tables import TITLES
from .trends import OVER_DURATIONS, OVER_TEACHERS, doubling, teachers_slope


def summary(study: Study) -> dict[str, Any]:
    """
    Return every estimate of the report for JSON; shares are in per cent, unknown values are `None`.

    Returns:
        `dict`: `seeds`, and estimates with `value`, `low`, `high` (95%), `p_value` and `seeds`. `teacher_slopes` and
        `duration_doublings` are by metric, `comparisons` by axis, condition and metric, `probes` by name.
    """
    comparisons = {}
    for axis in TITLES:
        if (comparison := compare(study, axis)) is not None:
            comparisons[axis] = {
                name: {metric.title: _score(score) for metric, score in row.items()}
                for name, row in comparison.rows.items()
            }
    return {
        "study": study.record["name"],
        "seeds": sorted({cell["axes"]["seed"] for cell in study.cells}),
        "cells": len(study.cells),
        "failed": len(study.failed),
        "teacher_slopes": _estimates({metric: teachers_slope(study, metric) for metric in OVER_TEACHERS}),
        "duration_doublings": _estimates({metric: doubling(study, metric) for metric in OVER_DURATIONS}),
        "comparisons": comparisons,
        "probes": {name: _plain(estimate) for name, (_, estimate) in ranked(study).items()},
    }


def _estimates(found: dict[Metric, Estimate | None]) -> dict[str, Any]:
    return {metric.title: _plain(estimate) for metric, estimate in found.items() if estimate is not None}


def _score(score: Score) -> dict[str, Any]:
    difference = None if score.difference is None else _plain(score.difference)
    return {
        "seeds": [round(value, 6) for value in score.values],
        "difference": difference,
        "adjusted_p": _number(score.adjusted),
    }


def _plain(estimate: Estimate) -> dict[str, Any]:
    return {name: _number(value) for name, value in dataclasses.asdict(estimate).items()}


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
