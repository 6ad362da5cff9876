"""Objectives side by side as a table and as a finding: slopes, differences, and shares of the lead."""

from __future__ import annotations

import numpy as np

from ...hub.cards.markdown import Markdown, code, table
from ..cells.cells import Study
from ..cells.metrics import Metric
from ..estimates.objective_results import GOAL, Judged, Result, asked, results, untaught_results
from ..estimates.objectives import Group
from ..estimates.power import LEVEL, detectable
from .sentences import bounds, part, per, with_bounds, would_have_seen


def objective_table(study: Study) -> Markdown | None:
    """Return a row for each score and objective, those without a teacher last; `None` without two slopes."""
    scored = asked(study)
    if not scored:
        return None
    rows = []
    for title, group, metric in scored:
        found = *results(study, group, metric), *untaught_results(study, group, metric)
        rows += [[title, *_row(result)] for result in found]
    base = code(results(study, *scored[0][1:])[0].objective)
    header = ["score", "objective", "slope", f"less {base}", "share of the lead", "seconds"]
    header = [*header, f"slope less {base}, equal time", "share, equal time"]
    return table([Markdown(name) for name in header], rows)


def _row(result: Result) -> list[str]:
    return [
        code(result.objective),
        with_bounds(result.slope),
        _difference(result.steps),
        _share(result, result.steps),
        _seconds(result.seconds),
        _difference(result.time),
        _share(result, result.time),
    ]


def _seconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds:.0f}"


def _difference(judged: Judged) -> Markdown:
    return Markdown(f"{with_bounds(judged.difference)} {judged.mark}".strip())


def _share(result: Result, judged: Judged) -> Markdown:
    if judged.share is None or result.strongest is None:
        return with_bounds(judged.share)
    return Markdown(f"{part(judged.share)} of {code(result.strongest)}")


def about_goal(study: Study) -> str | None:
    """Return whether an objective passes a better teacher on, and most of its lead, or how much is lacking."""
    scored = [(group, metric) for _, group, metric in asked(study) if metric == study.meter]
    if not scored:
        return None
    base = results(study, *scored[0])[0].objective
    text = (
        f"**The goal.** An objective is wanted whose slope is clearly above that of {code(base)}, and with which at "
        f"least {GOAL:.0%} of the strongest teacher's lead over the student alone arrives."
    ).replace("%", " %")
    for group, metric in scored:
        reader = f" Read by {code(group.axes['language_model'])}:" if len(scored) > 1 else ""
        told = _told(study, group, metric)
        text += f"{reader} {told[0].lower() if reader else told[0]}{told[1:]}"
    return text


def _told(study: Study, group: Group, metric: Metric) -> str:
    found = results(study, group, metric)
    base, others = found[0], found[1:]
    said = f"With {per(metric)} in its own {metric.title}, students of {code(base.objective)} gain "
    said += with_bounds(base.slope)
    if base.steps.share is not None:
        said += f", and {_arrives(base, base.steps, 'their')}"
    steps = _verdict(others, [result.steps for result in others])
    time = _verdict(others, [result.time for result in others])
    return f"{said}. At equal steps {steps} At equal training time {time}"


def _verdict(others: tuple[Result, ...], judged: list[Judged]) -> str:
    """Return the end of a sentence: the objectives that reach the goal, or the nearest and what it lacks."""
    known = [(result, found) for result, found in zip(others, judged, strict=True) if found.difference and found.share]
    if not known:
        return "nothing can be judged: no other objective has both numbers."
    names = [code(result.objective) for result in others if result not in [result for result, _ in known]]
    rest = f" Slope or share is unknown for {', '.join(names)}." if names else ""
    reached = [
        f"{code(result.objective)} ({_described(result, found)})" for result, found in known if found.reaches_goal
    ]
    if reached:
        return f"{' and '.join(reached)} {'reaches' if len(reached) == 1 else 'reach'} it.{rest}"
    nearest, found = max(known, key=lambda pair: (pair[1].mark == "▲", pair[1].share.value))
    missing = GOAL - found.share.value
    lacks = f", {missing:.2f} too little" if missing > 0 else ""
    return (
        f"none of {len(known)} reaches it; the nearest is {code(nearest.objective)}: "
        f"{_described(nearest, found, len(known))}{lacks}.{rest}"
    )


def _described(result: Result, judged: Judged, tests: int = 1) -> str:
    gap = judged.difference
    size = detectable(gap.error, gap.freedom, level=LEVEL / tests) if gap.seeds > 1 else np.nan
    clear = "clearly" if judged.mark else f"not clearly{would_have_seen('difference', size, 2, '')}"
    word = "lower" if gap.value < 0 else "higher"
    seeds = f"{gap.seeds} seed{'s' if gap.seeds > 1 else ''}"
    return (
        f"its slope over {seeds} is {abs(gap.value):.2f} {word}{bounds(gap)}, {clear}, and "
        f"{_arrives(result, judged, 'its')}"
    )


def _arrives(result: Result, judged: Judged, whose: str) -> str:
    # Another objective may have a stronger one.
    return f"{part(judged.share)} of the lead of {whose} strongest teacher {code(result.strongest)} arrives"
