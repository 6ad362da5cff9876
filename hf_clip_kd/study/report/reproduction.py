"""Comparison of two runs of a study with different seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from ...hub.cards.markdown import Markdown, code, environment, table
from ...recipe_io.results import read_written, write_whole
from ..estimates.statistics import CONFIDENCE, Estimate
from .sentences import with_bounds

SUMMARY, PAGE = "summary.json", "reproduction.md"


@dataclass(frozen=True)
class Again:
    """One number of both runs."""

    what: str = field(metadata={"help": "Name of the number in the report."})
    first: Estimate = field(metadata={"help": "Its value in the first run, with its interval."})
    second: Estimate = field(metadata={"help": "Its value in the second run."})
    reach: float = field(
        metadata={"help": "Largest difference by chance alone: 95 of 100 pairs of runs stay below it."}
    )

    @property
    def within(self) -> bool:
        """`True` if chance explains the difference."""
        return abs(self.second.value - self.first.value) <= self.reach

    @property
    def opposite(self) -> bool:
        """`True` if both are clear and have opposite signs."""
        return self.first.clear and self.second.clear and self.first.value * self.second.value < 0


def trends_again(first: dict[str, Any], second: dict[str, Any]) -> list[Again]:
    """Return the slopes over teachers and durations, and the numbers of objectives, that two summaries share."""
    titles = {
        ("teacher_slopes", "teacher"): "for each point of the teacher",
        ("duration_doublings", "duration"): "for each doubling",
    }
    trends = [
        _again(f"{metric}, {title}", first[key][metric], second[key][metric])
        for (key, axis), title in titles.items()
        if _holds_alike(first, second, axis)
        for metric in first[key]
        if _repeated(first[key][metric]) and _repeated(second[key].get(metric))
    ]
    return [*trends, *_objectives_again(first.get("objectives", {}), second.get("objectives", {}))]


def _objectives_again(first: dict[str, Any], second: dict[str, Any]) -> list[Again]:
    """Return slopes, differences to the base objective, and shares of the lead that both runs have."""
    return [
        _again(f"{score}, {objective}: {what}", number, other)
        for score, rows in first.items()
        for objective, numbers in rows.items()
        if (others := second.get(score, {}).get(objective))
        for (what, number), other in zip(_of_objective(numbers).items(), _of_objective(others).values(), strict=True)
        if _repeated(number) and _repeated(other)
    ]


def _of_objective(numbers: dict[str, Any]) -> dict[str, dict[str, Any] | None]:
    found = {name: numbers[name] for name in ("slope", "difference", "share")}
    return found | {f"{name}, equal time": numbers["equal_time"][name] for name in ("difference", "share")}


def differences_again(first: dict[str, Any], second: dict[str, Any]) -> list[Again]:
    """Return the differences to the reference row of each table; one that stands in two tables counts once."""
    found = {}
    for what, metric, score, again in _scores(first, second):
        if _repeated(score["difference"]) and _repeated(again["difference"]):
            same = (metric, *score["seeds"], score["difference"]["value"])
            found.setdefault(same, _again(what, score["difference"], again["difference"]))
    return list(found.values())


def means_again(first: dict[str, Any], second: dict[str, Any]) -> list[Again]:
    """Return mean scores over the seeds, with Welch's interval of the difference; a row in two tables counts once."""
    found = {}
    for what, metric, score, again in _scores(first, second):
        if min(len(score["seeds"]), len(again["seeds"])) > 1:
            found.setdefault((metric, *score["seeds"]), (what, score["seeds"], again["seeds"]))
    return [Again(what, _mean(old), _mean(new), _welch(old, new)) for what, old, new in found.values()]


def write_reproduction(first: Path, second: Path) -> tuple[Path, str]:
    """
    Write `reproduction.md` into the folder of the first of two studies.

    Args:
        first, second (`Path`): Folders with `summary.json`, as [`write_report`] leaves them.

    Returns:
        `tuple[Path, str]`: The file and its text.

    Raises:
        ValueError: A folder holds no summary, or both runs share a seed, or have nothing in common.
    """
    old, new = _read(first), _read(second)
    shared = sorted(set(old["seeds"]) & set(new["seeds"]))
    if shared:
        raise ValueError(
            f"{str(first)!r} and {str(second)!r} share the seeds {shared}, so their cells are partly the same run. "
            "The second must have seeds of its own. Run it with `--seeds '[3, 4, 5]' --output_dir ANOTHER`."
        )
    groups = {
        "Slopes": trends_again(old, new),
        "Differences to the first row of a table": differences_again(old, new),
        "Mean scores": means_again(old, new),
    }
    everything = [again for found in groups.values() for again in found]
    if not everything:
        raise ValueError(
            f"{str(first)!r} and {str(second)!r} have no number in common that several seeds stand behind, so there "
            "is nothing to compare. Both must be runs of one grid, with two seeds each at least. Pass the folders of "
            "such runs."
        )
    text = (
        environment("study/report/templates")
        .get_template("reproduction.md.jinja")
        .render(
            name=old["study"],
            seeds=", ".join(map(str, old["seeds"])),
            other_seeds=", ".join(map(str, new["seeds"])),
            groups={title: (sum(again.within for again in found), len(found)) for title, found in groups.items()},
            trends=_table(groups["Slopes"]),
            outside=_table([again for again in everything if not again.within]),
            opposite=_table([again for again in everything if again.opposite]),
        )
    )
    path = first / PAGE
    write_whole(path, text)
    return path, text


def _scores(first: dict[str, Any], second: dict[str, Any]) -> Iterator[tuple[str, str, dict, dict]]:
    """Yield a label (`objective: fd, VQA accuracy`), its metric, and its scores in both summaries."""
    for axis, rows in first["comparisons"].items():
        if not _holds_alike(first, second, axis):
            continue
        for name, row in rows.items():
            others = second["comparisons"].get(axis, {}).get(name, {})
            for metric in row:
                if metric in others:
                    yield f"{axis}: {name}, {metric}", metric, row[metric], others[metric]


def _holds_alike(first: dict[str, Any], second: dict[str, Any], axis: str) -> bool:
    """Return whether both runs hold the other axes at the same values. A run of fewer cells may hold others."""
    return first.get("held", {}).get(axis) == second.get("held", {}).get(axis)


def _repeated(estimate: dict[str, Any] | None) -> bool:
    return estimate is not None and estimate["low"] is not None and estimate["seeds"] > 1


def _again(what: str, first: dict[str, Any], second: dict[str, Any]) -> Again:
    old, new = _estimate(first), _estimate(second)
    # Both are uncertain, and independently of each other.
    return Again(what, old, new, math.hypot(old.high - old.value, new.high - new.value))


def _estimate(numbers: dict[str, Any]) -> Estimate:
    return Estimate(**{name: math.nan if value is None else value for name, value in numbers.items()})


def _mean(values: list[float]) -> Estimate:
    """Return the mean over the seeds with its interval. Its ends are equal if no seed changes the score."""
    value = float(np.mean(values))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * stats.sem(values))
    return Estimate(value, value - reach, value + reach, math.nan, len(values))


def _welch(old: list[float], new: list[float]) -> float:
    if not np.ptp(old) and not np.ptp(new):  # No seed changes the score, so chance explains nothing.
        return 0.0
    interval = stats.ttest_ind(old, new, equal_var=False).confidence_interval(CONFIDENCE)
    return float(interval.high - interval.low) / 2


def _read(folder: Path) -> dict[str, Any]:
    path = folder / SUMMARY
    if not path.is_file():
        raise ValueError(
            f"{str(folder)!r} holds no `{SUMMARY}`. It must be the folder of a study with its report. Run "
            f"`python recipes/study_report.py {folder}` first."
        )
    return read_written(path)


def _table(found: list[Again]) -> Markdown | None:
    rows = [
        (
            code(again.what),
            with_bounds(again.first),
            with_bounds(again.second),
            f"{again.reach:.2f}",
            "yes" if again.within else "no",
        )
        for again in found
    ]
    return table(["", "first run", "second run", "chance explains", "within it"], rows) if rows else None
