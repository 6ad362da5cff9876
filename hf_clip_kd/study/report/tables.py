"""Tables of the report: scores of the student for each value of an axis, slopes over teachers, and probes."""

from __future__ import annotations

from math import isnan
from typing import Any

from ...hub.cards.markdown import Markdown, code, table
from ..cells.cells import Study
from ..cells.metrics import QUESTION_PROBE, ZERO_SHOT, Metric, signed
from ..estimates.comparison import Comparison, compare
from ..estimates.slopes import teachers_slope
from .figures.probes import shown
from .sentences import with_bounds

MOST_SWEEPS = 6
TITLES = {
    "teacher": "Teachers",
    "objective": "Objectives",
    "duration": "Durations",
    "data": "Data",
    "student": "Students",
    "language_model": "Language models",
    "reading": "Readings",
}


def sweep_tables(study: Study, metrics: tuple[Metric, ...] | None = None) -> list[dict[str, Any]]:
    """Return title, table, reference and common settings of each axis that varies."""
    metrics = study.columns if metrics is None else metrics
    found = []
    for axis, title in TITLES.items():
        if (comparison := compare(study, axis, metrics)) is not None:
            fixed = comparison.sweep.fixed.items()
            same = ", ".join(f"{name.replace('_', ' ')} {code(value)}" for name, value in fixed if value)
            found.append(
                {
                    "title": title,
                    "table": score_table(comparison, metrics),
                    "same": Markdown(same),
                    "reference": code(comparison.reference),
                }
            )
    return found


def benchmark_tables(study: Study) -> list[dict[str, Any]]:
    """Return the tables of each set of `vqa_tables` as [`sweep_tables`] does, with the set in front of the title."""
    found = []
    for part in study.record["config"].get("vqa_tables") or {}:
        measured = [(cell.get("vqa_tables") or {}).get(part, {}) for cell in study.cells]
        names = dict.fromkeys(name for scores in measured for name in scores)
        metrics = tuple(Metric(name, ("vqa_tables", part), name) for name in names)
        tables = sweep_tables(study, metrics) if metrics else []
        found += [entry | {"title": f"{part}: {entry['title'].lower()}"} for entry in tables]
    return found


def score_table(comparison: Comparison, metrics: tuple[Metric, ...]) -> Markdown:
    """Return a table of mean ± standard deviation of each condition, with the marks of [`Score`]."""
    metrics = [metric for metric in metrics if any(metric in row for row in comparison.rows.values())]
    rows = [
        [code(name), max((len(score.values) for score in row.values()), default=0)]
        + [row[metric].show() if metric in row else "–" for metric in metrics]
        for name, row in comparison.rows.items()
    ]
    return table([comparison.sweep.axis.replace("_", " "), "seeds", *(metric.title for metric in metrics)], rows)


def slope_table(study: Study) -> Markdown | None:
    """Return the slopes of each sweep over teachers: students' scores in rows, the teachers' own in columns."""
    sweeps = study.sweeps("teacher")[:MOST_SWEEPS]
    against = tuple(dict.fromkeys((ZERO_SHOT, study.meter, QUESTION_PROBE)))
    rows = []
    for number, sweep in enumerate(sweeps):
        for metric in against:
            fits = [teachers_slope(study, metric, other, number=number) for other in against]
            if any(fit is not None for fit in fits):
                label = [sweep.label(sweeps) or "all"] if len(sweeps) > 1 else []
                rows.append([*label, metric.title, *map(with_bounds, fits)])
    header = [*(["students"] if len(sweeps) > 1 else []), "score of the student"]
    return table([*header, *(f"for the teacher's {metric.title}" for metric in against)], rows) if rows else None


def probe_table(study: Study) -> Markdown | None:
    """Return the rank correlation of each probe with VQA, the strongest first."""
    rows = [
        (
            code(name),
            cells,
            estimate.seeds,
            signed(estimate.value),
            "–" if isnan(estimate.low) else f"{signed(estimate.low)} to {signed(estimate.high)}",
        )
        for name, (cells, estimate) in shown(study).items()
    ]
    header = ["probe", "cells", "conditions", "rank correlation", "95% interval"]
    return table(header, rows) if rows else None


def failures(study: Study) -> Markdown | None:
    """Return the cells that ended with an error."""
    rows = [(code(cell["id"]), _axes(cell), cell["error"].strip().splitlines()[-1][:200]) for cell in study.failed]
    return table(["cell", "what", "error"], rows) if rows else None


def _axes(cell: dict) -> str:
    return ", ".join(f"{axis} {value}" for axis, value in cell["axes"].items() if value is not None)
