"""VQA against the number of tokens that a language model gets of an image."""

from __future__ import annotations

from typing import Any

from ...hub.cards.markdown import Markdown, code, table
from ..cells.cells import AXES, Study, Sweep, condition, scores
from ..cells.metrics import Metric
from ..estimates.outcomes import estimate
from .sentences import with_bounds


def token_sweeps(study: Study) -> list[Sweep]:
    """
    Return the cells that differ in their readings' image tokens, from most tokens to fewest.

    Ways to reduce tokens are apart, and so are readings with other values of their own. All tokens of a tower belong
    to each way. Of several readings alike, the first of the study counts. Students without a teacher come first.
    """
    counted = [cell for cell in study.cells if cell.get("image_tokens") is not None]
    readings = study.record["config"].get("readings") or {}
    ways = {cell["axes"]["reading"]: _way(readings.get(cell["axes"]["reading"]) or {}) for cell in counted}
    groups: dict[tuple, dict[int, list[dict[str, Any]]]] = {}
    first: dict[tuple, str] = {}
    for cell in counted:
        count, reading = cell["image_tokens"], cell["axes"]["reading"]
        own, others = ways[reading]
        reductions = {way: None for way, values in ways.values() if way and values == others} or {None: None}
        for reduction in reductions if own is None else (own,):
            key = (condition(cell, without="reading"), ", ".join(filter(None, (reduction, others))))
            if first.setdefault((key, count), reading) == reading:
                groups.setdefault(key, {}).setdefault(count, []).append(cell)
    axes = [axis for axis in AXES if axis != "reading"]
    found = [
        Sweep(
            "image_tokens",
            {**dict(zip(axes, values, strict=True)), "reading": way},
            dict(sorted(cells.items(), reverse=True)),
        )
        for (values, way), cells in groups.items()
        if len(cells) > 1
    ]
    return sorted(found, key=lambda sweep: sweep.fixed["teacher"] is not None)


def _way(reading: dict[str, Any]) -> tuple[str | None, str]:
    """Return how a reading reduces tokens, `None` if it takes all, and its other values."""
    others = {name: value for name, value in reading.items() if name not in ("image_tokens", "token_reduction")}
    reduction = None if reading.get("image_tokens") is None else reading.get("token_reduction") or "pool"
    return reduction, ", ".join(f"{name} {value}" for name, value in others.items())


def token_table(study: Study) -> Markdown | None:
    """
    Return the VQA of each student at each number of image tokens, and what the fewest cost.

    The last column is that loss against the loss of the first row. Differences are paired by seed and question.

    Returns:
        `Markdown`: `None` unless the readings of the study have several numbers of tokens.
    """
    sweeps, metric = token_sweeps(study), study.meter
    if not sweeps:
        return None
    counts = sorted({count for sweep in sweeps for count in sweep.cells}, reverse=True)
    rows = []
    for sweep in sweeps:
        ends = [sweep.cells[max(sweep.cells)], sweep.cells[min(sweep.cells)]]
        first = [sweeps[0].cells[max(sweeps[0].cells)], sweeps[0].cells[min(sweeps[0].cells)]]
        against = None if sweep is sweeps[0] else estimate([*first, *ends], metric, [1, -1, -1, 1])
        differences = [estimate(ends, metric, [-1, 1]), against]
        shown = [_score(sweep.cells.get(count, []), metric) for count in counts]
        gaps = [with_bounds(found, 1 if metric.percent else 2) for found in differences]
        rows.append([code(sweep.label(sweeps) or "student"), *shown, *gaps])
    least = f"{counts[-1]} less {counts[0]}"
    header = ["students", *map(str, counts), least, Markdown(f"against {code(sweeps[0].label(sweeps) or 'student')}")]
    return table(header, rows)


def _score(cells: list[dict[str, Any]], metric: Metric) -> str:
    values = list(scores(cells, metric).values())
    return metric.show_mean(values) if values else "–"


__all__ = ["token_sweeps", "token_table"]
