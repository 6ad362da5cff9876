"""Ways to give a tower one number of its VQA, cheap or dear: the rows of the meter's own table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..cells.metrics import AREA, AREA_BITS, BITS, QUESTION_PROBE, VQA, Metric

Score = Callable[[dict[str, Any]], float | None]


@dataclass(frozen=True)
class Gauge:
    """One way to measure a tower."""

    title: str = field(metadata={"help": "Name for readers, `VQA accuracy at 250 steps`."})
    metric: Metric = field(metadata={"help": "Unit and direction of its number."})
    score: Score = field(metadata={"help": "Returns the number of a record, `None` if it was not measured."})
    last: Score = field(metadata={"help": "The same metric at the largest step count."})
    seconds: Score = field(metadata={"help": "Seconds that it takes for one tower."})
    reads: bool = field(default=True, metadata={"help": "A language model reads the tower for it."})


def gauges(steps: list[int]) -> list[Gauge]:
    """Return all gauges of a study whose towers have a curve at `steps`; without a curve, those of its end."""
    found = []
    for metric, area in ((VQA, AREA), (BITS, AREA_BITS)):
        last = _at(metric, -1) if steps else metric.of
        if not steps:
            found.append(Gauge(metric.title, metric, metric.of, last, _stage("vlm")))
        for number, step in enumerate(steps):
            found.append(Gauge(f"{metric.title} at {step} steps", metric, _at(metric, number), last, _seconds(number)))
        if steps:
            found.append(Gauge(area.title, area, area.of, last, _seconds(-1)))
    last = _at(VQA, -1) if steps else VQA.of
    found.append(Gauge(QUESTION_PROBE.title, QUESTION_PROBE, QUESTION_PROBE.of, last, _stage("evaluate"), reads=False))
    return found


def curve_steps(records: list[dict[str, Any]]) -> list[int]:
    """Return the steps of the first curve there is."""
    return next((steps for record in records if (steps := (record.get("curve") or {}).get("steps"))), [])


def _at(metric: Metric, number: int) -> Score:
    def score(record: dict[str, Any]) -> float | None:
        values = (record.get("curve") or {}).get(metric.key)
        return None if not values else (100 if metric.percent else 1) * values[number]

    return score


def _seconds(number: int) -> Score:
    def seconds(record: dict[str, Any]) -> float | None:
        values = (record.get("curve") or {}).get("seconds")
        return values[number] if values else None

    return seconds


def _stage(kind: str) -> Score:
    return lambda record: (record.get("seconds") or {}).get(kind)
