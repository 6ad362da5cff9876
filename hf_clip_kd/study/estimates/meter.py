"""Quality of the meter itself: its noise, its agreement with longer training, the ladder it keeps, and its cost."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import mean, variance
from typing import Any

import numpy as np

from ..cells.cells import Study, condition, student_alone
from ..cells.metrics import ZERO_SHOT
from ..cells.towers import ladder_of_teachers
from .gauges import Gauge, curve_steps, gauges
from .statistics import rank_correlation

UNTRAINED, ALONE = "untrained", "alone"
FEWEST_TOWERS = 3


@dataclass(frozen=True)
class Run:
    """One measurement of one tower."""

    tower: tuple = field(metadata={"help": "A condition, or kind and name of a teacher or reference."})
    seed: int | None = field(metadata={"help": "Seed of the student; `None` for a teacher or reference."})
    vlm_seed: int = field(metadata={"help": "Seed of the vision-language model."})
    record: dict[str, Any] = field(metadata={"help": "The cell, or the entry of `towers`."})


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    gauge: Gauge = field(metadata={"help": "The way to measure."})
    reading: str | None = field(metadata={"help": "Name of the reading; `None` if nothing reads."})
    vlm_deviation: float | None = field(metadata={"help": "Standard deviation between VLM seeds of the same tower."})
    paired_deviation: float | None = field(
        metadata={"help": "The same without what a VLM seed does to all towers alike: noise at equal seeds."}
    )
    student_deviation: float | None = field(metadata={"help": "Standard deviation between seeds of a student."})
    correlation: float | None = field(metadata={"help": "Spearman's, over towers, with the largest step count."})
    rungs: tuple[str, ...] = field(metadata={"help": "The rungs of the ladder that were measured."})
    kept: int = field(metadata={"help": "Number of cases with the ladder in order."})
    cases: int = field(metadata={"help": "Pairs of a student's seed and a VLM seed."})
    span: float | None = field(metadata={"help": "Mean distance of the strongest teacher from the lowest rung."})
    seconds: float | None = field(metadata={"help": "Mean seconds of a tower."})


@functools.cache
def meter_rows(study: Study) -> list[Row]:
    """Return a row for each reading and each gauge that some tower has."""
    found = []
    for reading in dict.fromkeys(cell["axes"].get("reading") for cell in study.runs):
        runs = _runs(study, reading)
        for gauge in gauges(curve_steps([run.record for run in runs])):
            if not gauge.reads and reading != study.reading:
                continue  # No language model reads for it, so it is the same with each reading.
            some = [run for run in runs if gauge.score(run.record) is not None]
            if some:
                found.append(_row(study, gauge, reading, some))
    return found


def whole_ladder(study: Study) -> tuple[str, ...]:
    """
    Return the names of all rungs: untrained, alone, and the strengths of teachers, the weakest first.

    A student alone that was trained longer than a weak teacher passes it. It is a rung only below all teachers, by
    zero-shot accuracy.
    """
    teachers = ladder_of_teachers(study.record)
    weakest = _zero_shot(study.record["teachers"][name] for name in next(iter(teachers.values()), []))
    alone = _zero_shot(student_alone(study.cells, longest=False))
    passes = None not in (alone, weakest) and alone > weakest
    return (UNTRAINED, *teachers) if passes else (UNTRAINED, ALONE, *teachers)


def _zero_shot(records: Iterable[dict[str, Any]]) -> float | None:
    found = [value for record in records if (value := ZERO_SHOT.of(record)) is not None]
    return mean(found) if found else None


def cheapest(study: Study, *, read: bool = False) -> Row | None:
    """Return the cheapest row that keeps the whole ladder in every case, or the cheapest that a language model reads.

    Of equals, the quieter one counts. `None` if there is none.
    """
    whole = whole_ladder(study)
    good = [
        row
        for row in meter_rows(study)
        if row.rungs == whole and row.kept == row.cases > 0 and (row.gauge.reads or not read)
    ]
    return min(good, key=lambda row: (math.inf if row.seconds is None else row.seconds, _noise(row)), default=None)


def _noise(row: Row) -> float:
    """Return the deviation between VLM seeds as a share of the ladder, so that bits compare with points."""
    return (row.vlm_deviation or 0.0) / row.span


def used(study: Study) -> Row | None:
    """Return the row of the meter that the study's findings use: the one of the first reading, at its end."""
    alike = [
        row for row in meter_rows(study) if row.gauge.metric == study.meter and row.reading in (study.reading, None)
    ]
    return alike[-1] if alike else None


def _runs(study: Study, reading: str | None) -> list[Run]:
    cells = [cell for cell in study.runs if cell["axes"].get("reading") == reading]
    language_model = cells[0]["axes"].get("language_model")
    students = [
        Run(condition(cell), cell["axes"]["seed"], _vlm_seed(cell["axes"]), cell)
        for cell in cells
        if cell["axes"].get("language_model") == language_model
    ]
    towers = [
        Run(
            (tower["kind"], tower["name"]),
            None,
            tower["axes"].get("vlm_seed") or 0,
            (study.record["teachers"].get(tower["name"], {}) if tower["kind"] == "teacher" else {}) | _known(tower),
        )
        for tower in study.record.get("towers") or []
        if tower["axes"].get("reading") == reading
        and tower["axes"].get("language_model") == language_model
        and tower["name"] != "blind"
    ]
    return [*students, *towers]


def _vlm_seed(axes: dict[str, Any]) -> int:
    return axes["seed"] if axes.get("vlm_seed") is None else axes["vlm_seed"]


def _known(tower: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in tower.items() if value is not None}


def _row(study: Study, gauge: Gauge, reading: str | None, runs: list[Run]) -> Row:
    rungs, kept, cases, span = _ladder(study, gauge, runs)
    seconds = [value for run in runs if (value := gauge.seconds(run.record)) is not None]
    by_tower = _grouped((run.tower, gauge.score(run.record)) for run in runs)
    last = _grouped((run.tower, gauge.last(run.record)) for run in runs)
    both = [(mean(by_tower[tower]), mean(last[tower]), tower) for tower in by_tower if tower in last]
    correlation = rank_correlation(*zip(*both, strict=True)).value if len(both) >= FEWEST_TOWERS else None
    single = _grouped(((run.tower, run.seed), gauge.score(run.record)) for run in runs)
    seeds = _grouped((tower, mean(values)) for (tower, seed), values in single.items() if seed is not None)
    return Row(
        gauge,
        reading if gauge.reads else None,
        pooled_deviation(single.values()) if gauge.reads else None,
        paired_deviation(((run.tower, run.seed), run.vlm_seed, gauge.score(run.record)) for run in runs)
        if gauge.reads
        else None,
        pooled_deviation(seeds.values()),
        correlation,
        rungs,
        kept,
        cases,
        span,
        mean(seconds) if seconds else None,
    )


def _grouped(pairs: Iterable[tuple[Any, float | None]]) -> dict[Any, list[float]]:
    groups: dict[Any, list[float]] = {}
    for key, value in pairs:
        if value is not None:
            groups.setdefault(key, []).append(value)
    return groups


def pooled_deviation(groups: Iterable[list[float]]) -> float | None:
    """Return the pooled standard deviation within groups of repeats; `None` if no group has two."""
    repeated = [group for group in groups if len(group) > 1]
    if not repeated:
        return None
    freedom = sum(len(group) - 1 for group in repeated)
    return (sum((len(group) - 1) * variance(group) for group in repeated) / freedom) ** 0.5


def paired_deviation(measured: Iterable[tuple[Any, int, float]]) -> float | None:
    """
    Return the standard deviation that the means of towers and of VLM seeds leave, or `None` without repeats.

    It is the residual deviation of the additive model `score = tower + seed`, fitted by least squares. A difference of
    two towers that are read with equal seeds has this noise, times the root of two.

    Args:
        measured (`Iterable[tuple[Any, int, float]]`): Tower, VLM seed and score of each measurement.
    """
    by_tower: dict[Any, dict[int, float]] = {}
    for tower, seed, score in measured:
        by_tower.setdefault(tower, {})[seed] = score
    repeated = [own for own in by_tower.values() if len(own) > 1]
    seeds = sorted({seed for own in repeated for seed in own})
    rows = [
        ([place == number for place in range(len(repeated))] + [seed == other for other in seeds], score)
        for number, own in enumerate(repeated)
        for seed, score in own.items()
    ]
    if not rows:
        return None
    design, scores = np.array([row for row, _ in rows], float), np.array([score for _, score in rows])
    fitted, _, rank, _ = np.linalg.lstsq(design, scores, rcond=None)
    freedom = len(scores) - rank
    return float(np.linalg.norm(scores - design @ fitted) / freedom**0.5) if freedom > 0 else None


def _ladder(study: Study, gauge: Gauge, runs: list[Run]) -> tuple[tuple[str, ...], int, int, float | None]:
    """Return the measured rungs, the cases with all of them in order, the number of cases, and their mean span."""
    teachers = ladder_of_teachers(study.record)
    # A student alone that is trained longer than a weak teacher passes it: the least trained counts.
    alone = student_alone((run.record for run in runs if run.seed is not None), longest=False)
    students = {(cell["axes"]["seed"], _vlm_seed(cell["axes"])): gauge.score(cell) for cell in alone}
    ladder = whole_ladder(study)
    rungs: tuple[str, ...] = ()
    kept, spans = 0, []
    for (_, vlm_seed), height in students.items():
        heights = {
            UNTRAINED: _height(gauge, runs, [("reference", UNTRAINED)], vlm_seed),
            ALONE: height,
            **{
                strength: _height(gauge, runs, [("teacher", name) for name in names], vlm_seed)
                for strength, names in teachers.items()
            },
        }
        known = {name: gauge.metric.better(heights[name]) for name in ladder if heights[name] is not None}
        rungs = tuple(known)
        values = list(known.values())
        spans.append(values[-1] - values[0])
        kept += all(low < high for low, high in zip(values, values[1:], strict=False)) and len(values) > 1
    return rungs, kept, len(students), mean(spans) if spans else None


def _height(gauge: Gauge, runs: list[Run], towers: list[tuple], vlm_seed: int) -> float | None:
    """Return the mean of some towers with a VLM seed. A tower without it counts with the mean over all of its own."""
    heights = []
    for tower in towers:
        own = [run for run in runs if run.tower == tower]
        same = [run for run in own if run.vlm_seed == vlm_seed] or own
        heights += [mean(gauge.score(run.record) for run in same)] if same else []
    return mean(heights) if heights else None
