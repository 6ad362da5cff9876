"""Tables of the measurement: types of question, learning curves, the meter's own quality, shares of a lead."""

from __future__ import annotations

from typing import Any

from ...hub.cards.markdown import Markdown, code, table
from ...recipe_io.learning_curve import steps_to
from ..cells.cells import AXES, Study
from ..cells.metrics import AREA, BITS, QUESTION_PROBE, VQA, ZERO_SHOT, signed
from ..estimates.curves import lines
from ..estimates.gauges import curve_steps
from ..estimates.grading import grades
from ..estimates.lead import shares
from ..estimates.meter import ALONE, Row, cheapest, meter_rows, whole_ladder
from ..estimates.statistics import Estimate
from .sentences import part

MARK = "✔"


def grading_table(study: Study) -> Markdown | None:
    """Return accuracy and bits of each type of question for the towers that bound it, and a verdict."""
    found = grades(study)
    if not found:
        return None
    towers = list(found[0].scores)
    rows = [[code(grade.kind), *(_score(grade, tower) for tower in towers), grade.verdict or "–"] for grade in found]
    header = ["type", *("strongest teacher" if tower == "teacher" else tower for tower in towers), "verdict"]
    return table(header, rows)


def _score(grade, tower: str) -> str:
    if tower not in grade.scores:
        return "–"
    bits = f" ({BITS.show(grade.bits[tower])})" if tower in grade.bits else ""
    return VQA.show(grade.scores[tower]) + bits


def meter_table(study: Study) -> Markdown | None:
    """Return the noise, the agreement, the ladder and the cost of each way to measure, with the cheapest marked.

    The cheapest of all has a mark, and the cheapest of those that a language model reads.
    """
    rows = meter_rows(study)
    if not rows or not any(row.cases for row in rows):
        return None
    best = (cheapest(study), cheapest(study, read=True))
    header = [
        "meter",
        "reading",
        "SD, VLM seeds",
        "at equal seeds",
        "SD, student seeds",
        "span of the ladder",
        "rank correlation with the end",
        "ladder kept",
        "seconds",
        "cheapest that keeps it",
    ]
    return table(header, [[*_cells(study, row), MARK if row in best else ""] for row in rows])


def ten_times(study: Study) -> str:
    """Return `(ten times as many as 100)` if a curve has such a pair of steps."""
    steps = curve_steps(study.runs)
    return f"(ten times as many as {steps[-1] // 10})" if steps and steps[-1] / 10 in steps else ""


def _cells(study: Study, row: Row) -> list[str]:
    metric = row.gauge.metric
    deviations = [
        "–" if value is None else f"{value:.{2 if metric.percent else 3}f}"
        for value in (row.vlm_deviation, row.paired_deviation, row.student_deviation, row.span)
    ]
    correlation = "–" if row.correlation is None else signed(row.correlation)
    lacking = [rung for rung in whole_ladder(study) if rung not in row.rungs]
    without = f" (without {', '.join(lacking)})" if lacking and row.rungs else ""
    kept = f"{row.kept} of {row.cases}{without}" if row.cases else "–"
    seconds = "–" if row.seconds is None else f"{row.seconds:.0f}"
    return [row.gauge.title, row.reading or "–", *deviations, correlation, kept, seconds]


def curve_table(study: Study) -> dict[str, Any] | None:
    """Return the table of what tokens hold and how soon they are read, with the score of its last column."""
    found = lines(study)
    if not found:
        return None
    steps = curve_steps([record for line in found for record in line.records])
    reference = next((line for line in found if line.label == ALONE), found[0])
    target = float(reference.values(VQA)[-1])
    rows = []
    for line in found:
        values, reached = line.values(VQA), steps_to(steps, line.values(VQA), target)
        numbers = [line.mean(QUESTION_PROBE), line.mean(AREA), values[-1]]
        shown = ["–" if value is None else VQA.show(value) for value in numbers]
        rows.append([line.label, *shown, "–" if reached is None else f"{reached:.0f}"])
    header = ["tower", "hold: question probe", "read: curve area", f"at {steps[-1]} steps", f"steps to {target:.1f}"]
    return {"table": Markdown(table(header, rows)), "reference": reference.label}


def lead_table(study: Study) -> Markdown | None:
    """Return the share of each teacher's lead over the student alone that arrives, by condition."""
    metrics = tuple(dict.fromkeys((study.meter, QUESTION_PROBE, ZERO_SHOT)))
    found = {metric: shares(study, metric) for metric in metrics}
    keys = list(dict.fromkeys(key for by_key in found.values() for key in by_key))
    shown = [
        number
        for number, axis in enumerate(AXES)
        if axis in ("teacher", "objective") or len({key[number] for key in keys}) > 1
    ]
    rows = [
        [
            *(code(key[number]) for number in shown),
            *(_share(by_key[key]) if key in by_key else "–" for by_key in found.values()),
        ]
        for key in keys
    ]
    header = [*(AXES[number].replace("_", " ") for number in shown), *(f"in {metric.title}" for metric in metrics)]
    return table(header, rows) if rows else None


def _share(share: Estimate | None) -> Markdown:
    if share is None:
        return Markdown("no clear lead")
    return Markdown(part(share))
