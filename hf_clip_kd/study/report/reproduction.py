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
from ..estimates.comparison import NO_TEACHER
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
    """Return the slopes over teachers and durations, and those of objectives, that mean the same in two summaries."""
    titles = {
        ("teacher_slopes", "teacher"): "for each point of the teacher",
        ("duration_doublings", "duration"): "for each doubling",
    }
    trends = [
        _again(f"{metric}, {title}", first[key][metric], second[key][metric])
        for (key, axis), title in titles.items()
        if _holds_alike(first, second, axis)
        for metric in first[key]
        if _conditions(first, axis, metric) == _conditions(second, axis, metric)
        if _repeated(first[key][metric]) and _repeated(second[key].get(metric))
    ]
    return [*trends, *_slopes_of_objectives(first, second)]


def _conditions(summary: dict[str, Any], axis: str, metric: str) -> set[str]:
    """Return the conditions that a slope over an axis is fitted to."""
    rows = summary.get("comparisons", {}).get(axis, {})
    return {name for name, row in rows.items() if metric in row and name != NO_TEACHER}


def _slopes_of_objectives(first: dict[str, Any], second: dict[str, Any]) -> list[Again]:
    """Return the slopes of objectives, and what they are above the base objective's, of the same teachers in both."""
    found = []
    for score, objective, numbers, others in _objectives(first, second):
        if not _same_teachers(first, second, score, objective):
            continue
        found.append((f"{score}, {objective}: slope", numbers["slope"], others["slope"]))
        if _same_base(first, second, score):
            what = f"{score}, {objective}: difference"
            found.append((what, numbers["difference"], others["difference"]))
            timed = [run["equal_time"]["difference"] for run in (numbers, others)]
            found.append((f"{what}, equal time", *timed))
    return [_again(what, old, new) for what, old, new in found if _repeated(old) and _repeated(new)]


def shares_again(first: dict[str, Any], second: dict[str, Any]) -> list[Again]:
    """Return the shares of the same teacher's lead that two summaries have; one that stands in both tables once."""
    rows = []
    for score, objective, numbers, others in _objectives(first, second):
        teacher, other = (_strongest(summary, score, objective) for summary in (first, second))
        if teacher is None or teacher != other or not _same_axes(first, second, score):
            continue
        what = f"{score}, {objective}: share of {teacher}"
        rows.append((what, numbers["share"], others["share"]))
        rows.append((f"{what}, equal time", numbers["equal_time"]["share"], others["equal_time"]["share"]))
    for metric, shares in first.get("leads", {}).items():
        others = second.get("leads", {}).get(metric, {})
        rows += [(f"{metric}, {name}: share", shares[name], others[name]) for name in shares if name in others]
    found = {}
    for what, old, new in rows:
        if _repeated(old) and _repeated(new):
            found.setdefault((old["value"], new["value"]), _again(what, old, new))
    return list(found.values())


def differences_again(first: dict[str, Any], second: dict[str, Any]) -> list[Again]:
    """Return the differences to the reference row of each table; one that stands in two tables counts once."""
    found = {}
    for axis, what, metric, score, again in _scores(first, second):
        # The first row is what all others are compared with.
        references = {next(iter(summary["comparisons"][axis])) for summary in (first, second)}
        if len(references) == 1 and _repeated(score["difference"]) and _repeated(again["difference"]):
            same = (metric, *score["seeds"], score["difference"]["value"])
            found.setdefault(same, _again(what, score["difference"], again["difference"]))
    return list(found.values())


def means_again(first: dict[str, Any], second: dict[str, Any]) -> list[Again]:
    """Return mean scores over the seeds, with Welch's interval of the difference; a row in two tables counts once."""
    found = {}
    for _, what, metric, score, again in _scores(first, second):
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
        "Shares of a teacher's lead": shares_again(old, new),
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
            groups={
                title: (sum(again.within for again in found), len(found)) for title, found in groups.items() if found
            },
            trends=_table(groups["Slopes"]),
            shares=_table(groups["Shares of a teacher's lead"]),
            outside=_table([again for again in everything if not again.within]),
            opposite=_table([again for again in everything if again.opposite]),
        )
    )
    path = first / PAGE
    write_whole(path, text)
    return path, text


def _objectives(first: dict[str, Any], second: dict[str, Any]) -> Iterator[tuple[str, str, dict, dict]]:
    """Yield score, objective, and the numbers of both summaries that have it."""
    for score, rows in first.get("objectives", {}).items():
        others = second.get("objectives", {}).get(score, {})
        yield from ((score, name, rows[name], others[name]) for name in rows if name in others)


def _fit(summary: dict[str, Any], score: str) -> dict[str, Any] | None:
    """Return what the numbers of objectives depend on, `None` for an older summary: it does not say."""
    return summary.get("objective_fits", {}).get(score)


def _same_axes(first: dict[str, Any], second: dict[str, Any], score: str) -> bool:
    """Return whether both runs hold the same values, as far as their summaries say."""
    old, new = _fit(first, score), _fit(second, score)
    return None in (old, new) or old["axes"] == new["axes"]


def _same_teachers(first: dict[str, Any], second: dict[str, Any], score: str, objective: str) -> bool:
    """Return whether both runs are known to fit the slope of an objective to the same teachers."""
    old, new = _fit(first, score), _fit(second, score)
    if None in (old, new) or old["axes"] != new["axes"]:
        return False
    return old["teachers"].get(objective) == new["teachers"].get(objective)


def _same_base(first: dict[str, Any], second: dict[str, Any], score: str) -> bool:
    base = _fit(first, score)["base"]
    return base == _fit(second, score)["base"] and _same_teachers(first, second, score, base)


def _strongest(summary: dict[str, Any], score: str, objective: str) -> str | None:
    """Return the teacher whose lead a share is of. Without a teacher it is that of the base objective, the first."""
    rows = summary["objectives"][score]
    return rows[objective].get("strongest") or next(iter(rows.values())).get("strongest")


def _scores(first: dict[str, Any], second: dict[str, Any]) -> Iterator[tuple[str, str, str, dict, dict]]:
    """Yield an axis, a label (`objective: fd, VQA accuracy`), its metric, and its scores in both summaries."""
    for axis, rows in first["comparisons"].items():
        if not _holds_alike(first, second, axis):
            continue
        for name, row in rows.items():
            others = second["comparisons"].get(axis, {}).get(name, {})
            for metric in row:
                if metric in others:
                    yield axis, f"{axis}: {name}, {metric}", metric, row[metric], others[metric]


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
