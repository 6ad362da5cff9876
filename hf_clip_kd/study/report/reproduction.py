"""Whether a second run of a study, with other seeds, says what the first one said."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from ...hub.cards.markdown import Markdown, code, environment, table
from ...recipe_io.results import write_whole
from .findings import bounds
from .metrics import signed
from .statistics import CONFIDENCE, Estimate

SUMMARY, PAGE = "summary.json", "reproduction.md"


@dataclass(frozen=True)
class Again:
    """One number of both runs."""

    what: str = field(metadata={"help": "What it is, as the report calls it."})
    first: Estimate = field(metadata={"help": "In the first run, with its interval."})
    second: Estimate = field(metadata={"help": "In the second."})
    reach: float = field(
        metadata={"help": "How far apart chance alone puts them: no further in 95 of 100 pairs of runs."}
    )

    @property
    def within(self) -> bool:
        """Whether they differ by no more than chance explains."""
        return abs(self.second.value - self.first.value) <= self.reach

    @property
    def opposite(self) -> bool:
        """Whether both are clear, and one says the reverse of the other."""
        return self.first.clear and self.second.clear and self.first.value * self.second.value < 0


def trends_again(first: dict[str, Any], second: dict[str, Any]) -> list[Again]:
    """The slopes over teachers and durations of two summaries, as [`summary`] makes them, that both of them have."""
    titles = {"teacher_slopes": "for each point of the teacher", "duration_doublings": "for each doubling"}
    return [
        _again(f"{metric}, {title}", first[key][metric], second[key][metric])
        for key, title in titles.items()
        for metric in first[key]
        if _repeated(first[key][metric]) and _repeated(second[key].get(metric))
    ]


def differences_again(first: dict[str, Any], second: dict[str, Any]) -> list[Again]:
    """The differences to the reference row of each table; one that stands in two tables counts once."""
    found = {}
    for what, metric, one, other in _scores(first, second):
        if _repeated(one["difference"]) and _repeated(other["difference"]):
            same = (metric, *one["seeds"], one["difference"]["value"])
            found.setdefault(same, _again(what, one["difference"], other["difference"]))
    return list(found.values())


def means_again(first: dict[str, Any], second: dict[str, Any]) -> list[Again]:
    """The mean scores over the seeds, with Welch's interval of their difference; a row of two tables counts once."""
    found = {}
    for what, metric, one, other in _scores(first, second):
        if min(len(one["seeds"]), len(other["seeds"])) > 1:
            found.setdefault((metric, *one["seeds"]), (what, one["seeds"], other["seeds"]))
    return [Again(what, _mean(one), _mean(other), _welch(one, other)) for what, one, other in found.values()]


def write_reproduction(first: Path, second: Path) -> tuple[Path, str]:
    """
    Writes `reproduction.md` into the folder of the first of two studies.

    Args:
        first, second (`Path`): Folders with `summary.json`, as [`write_report`] leaves them.

    Returns:
        `tuple[Path, str]`: the file and what it says.

    Raises:
        ValueError: if a folder holds no summary, or both runs share a seed, or have nothing in common.
    """
    one, other = _read(first), _read(second)
    shared = sorted(set(one["seeds"]) & set(other["seeds"]))
    if shared:
        raise ValueError(
            f"{str(first)!r} and {str(second)!r} share the seeds {shared}, so their cells are partly the same run. The second must have "
            "seeds of its own. Run it with `--seeds '[3, 4, 5]' --output_dir ANOTHER`."
        )
    groups = {
        "Slopes": trends_again(one, other),
        "Differences to the first row of a table": differences_again(one, other),
        "Mean scores": means_again(one, other),
    }
    everything = [again for found in groups.values() for again in found]
    if not everything:
        raise ValueError(
            f"{str(first)!r} and {str(second)!r} have no number in common that several seeds stand behind, so there is nothing to "
            "compare. Both must be runs of one grid, with two seeds each at least. Pass the folders of such runs."
        )
    text = (
        environment("study/report/templates")
        .get_template("reproduction.md.jinja")
        .render(
            name=one["study"],
            seeds=", ".join(map(str, one["seeds"])),
            other_seeds=", ".join(map(str, other["seeds"])),
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
    """`objective: fd, VQA accuracy`, its metric, and what both summaries say of it."""
    for axis, rows in first["comparisons"].items():
        for name, row in rows.items():
            others = second["comparisons"].get(axis, {}).get(name, {})
            for metric in row:
                if metric in others:
                    yield f"{axis}: {name}, {metric}", metric, row[metric], others[metric]


def _repeated(estimate: dict[str, Any] | None) -> bool:
    return estimate is not None and estimate["low"] is not None and estimate["seeds"] > 1


def _again(what: str, first: dict[str, Any], second: dict[str, Any]) -> Again:
    one, other = (
        Estimate(**{name: math.nan if value is None else value for name, value in each.items()})
        for each in (first, second)
    )
    # Both are uncertain, and independently of each other.
    return Again(what, one, other, math.hypot(one.high - one.value, other.high - other.value))


def _mean(values: list[float]) -> Estimate:
    """With the interval of the mean over the seeds."""
    low, high = stats.t.interval(CONFIDENCE, len(values) - 1, np.mean(values), stats.sem(values))
    return Estimate(float(np.mean(values)), float(low), float(high), math.nan, len(values))


def _welch(one: list[float], other: list[float]) -> float:
    if not np.ptp(one) and not np.ptp(other):  # no seed moves it, so chance explains nothing
        return 0.0
    interval = stats.ttest_ind(one, other, equal_var=False).confidence_interval(CONFIDENCE)
    return float(interval.high - interval.low) / 2


def _read(folder: Path) -> dict[str, Any]:
    path = folder / SUMMARY
    if not path.is_file():
        raise ValueError(
            f"{str(folder)!r} holds no `{SUMMARY}`. It must be the folder of a study with its report. Run "
            f"`python recipes/study_report.py {folder}` first."
        )
    return json.loads(path.read_text(encoding="utf-8"))


def _table(found: list[Again]) -> Markdown | None:
    rows = [
        (
            code(one.what),
            Markdown(signed(one.first.value) + bounds(one.first)),
            Markdown(signed(one.second.value) + bounds(one.second)),
            f"{one.reach:.2f}",
            "yes" if one.within else "no",
        )
        for one in found
    ]
    return table(["", "first run", "second run", "chance explains", "within it"], rows) if rows else None
