"""Numbers of a report for programs: to quote, or to compare another study with their intervals."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from ..cells.cells import Study
from ..cells.metrics import QUESTION_PROBE, Metric
from ..estimates.comparison import Score, compare
from ..estimates.grading import grades
from ..estimates.lead import shares
from ..estimates.meter import Row, meter_rows
from ..estimates.objective_results import Judged, asked, results, untaught_results
from ..estimates.objectives import Group, line, several
from ..estimates.slopes import teachers_slope
from ..estimates.statistics import Estimate
from ..estimates.trends import OVER_DURATIONS, OVER_TEACHERS, doubling
from .figures.probes import ranked
from .tables import TITLES


def summary(study: Study) -> dict[str, Any]:
    """
    Return every estimate of the report for JSON; shares are in per cent, unknown values are `None`.

    Returns:
        `dict`: `seeds`, and estimates with `value`, `low`, `high` (95%), `p_value` and `seeds`. `teacher_slopes` and
        `duration_doublings` are by metric, `comparisons` by axis, condition and metric, `probes` by name. `held` has
        the values of the other axes, the same in all conditions of an axis. `own_slopes` are over the teachers' own
        score in the same metric. `leads` are by metric and condition. `objectives` are by score and objective: slope,
        difference to the base objective's, strongest teacher, and share of its lead. `objective_fits` says by score
        what these depend on: the axes that all students share, the base objective, and the teachers of each slope.
        `meter` has the rows of its own table. `types` has the scores and the verdict of each type of question.
    """
    comparisons, held = {}, {}
    for axis in TITLES:
        if (comparison := compare(study, axis)) is not None:
            held[axis] = comparison.sweep.fixed
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
        "own_slopes": _estimates({metric: teachers_slope(study, metric, metric) for metric in OVER_TEACHERS}),
        "comparisons": comparisons,
        "held": held,
        "leads": {
            metric.title: {_named(key): _plain(share) for key, share in shares(study, metric).items() if share}
            for metric in dict.fromkeys((study.meter, QUESTION_PROBE))
        },
        "objectives": {title: _objectives(study, group, metric) for title, group, metric in asked(study)},
        "objective_fits": {title: _fits(study, group, metric) for title, group, metric in asked(study)},
        "meter": [_row(row) for row in meter_rows(study)],
        "types": {
            grade.kind: {"verdict": grade.verdict, "accuracy": grade.scores, "bits": grade.bits}
            for grade in grades(study)
        },
        "probes": {name: _plain(estimate) for name, (_, estimate) in ranked(study).items()},
    }


def _objectives(study: Study, group: Group, metric: Metric) -> dict[str, Any]:
    return {
        result.objective: {
            "slope": _known(result.slope),
            "strongest": result.strongest,
            **_judged(result.steps),
            "seconds": None if result.seconds is None else _number(result.seconds),
            "equal_time": _judged(result.time),
        }
        for result in (*results(study, group, metric), *untaught_results(study, group, metric))
    }


def _fits(study: Study, group: Group, metric: Metric) -> dict[str, Any]:
    lines = {objective: line(study, group, taught, metric) for objective, taught in group.taught.items()}
    teachers = {objective: sorted(fitted.teachers) if fitted else [] for objective, fitted in lines.items()}
    return {"axes": group.axes, "base": several(group)[0], "teachers": teachers}


def _judged(judged: Judged) -> dict[str, Any]:
    return {
        "difference": _known(judged.difference),
        "adjusted_p": _number(judged.adjusted),
        "share": _known(judged.share),
    }


def _known(estimate: Estimate | None) -> dict[str, Any] | None:
    return None if estimate is None else _plain(estimate)


def _named(key: tuple) -> str:
    return ", ".join(str(value) for value in key if value is not None)


def _row(row: Row) -> dict[str, Any]:
    values = {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
    for name in ("gauge", "reading", "rungs"):
        del values[name]
    numbers = {name: None if value is None else _number(value) for name, value in values.items()}
    return {"title": row.gauge.title, "reading": row.reading, "rungs": list(row.rungs)} | numbers


def _estimates(found: dict[Metric, Estimate | None]) -> dict[str, Any]:
    return {metric.title: _plain(estimate) for metric, estimate in found.items() if estimate is not None}


def _score(score: Score) -> dict[str, Any]:
    return {
        "seeds": [round(value, 6) for value in score.values],
        "difference": _known(score.difference),
        "adjusted_p": _number(score.adjusted),
    }


def _plain(estimate: Estimate) -> dict[str, Any]:
    return {name: _number(value) for name, value in dataclasses.asdict(estimate).items()}


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
