"""Findings of a study in sentences; each gives a number, its interval and no more than these allow."""

from __future__ import annotations

from collections.abc import Callable
from statistics import mean

import numpy as np

from ...hub.cards.markdown import Markdown, code, count
from .cells import Study, scores
from .comparison import Score, compare
from .figures.cost import cost_of
from .figures.probes import ranked
from .metrics import VQA, ZERO_SHOT, Metric, signed
from .power import detectable
from .statistics import Estimate
from .trends import OVER_DURATIONS, OVER_TEACHERS, doubling, teachers_own_slope, teachers_slope


def bounds(estimate: Estimate, digits: int = 2) -> str:
    """Return an interval as text, ` [+1.2, +3.4]`, with a space in front, or nothing without repetition."""
    if np.isnan(estimate.low):
        return ""
    return f" [{signed(estimate.low, digits)}, {signed(estimate.high, digits)}]"


def would_have_seen(what: str, size: float, digits: int, unit: str) -> str:
    """Return the smallest number that a test shows with power 0.8, as text, or nothing if that is not known."""
    return "" if np.isnan(size) else f"; a {what} of {size:.{digits}f}{unit} would have been seen"


def moved(estimate: Estimate, metric: Metric) -> str:
    """Return a trend as text, `rises by 0.60 points [+0.54, +0.67]`, or that no trend is clear."""
    digits, unit = (2, " points") if metric.percent else (3, "")
    if not estimate.clear:
        why = "shows no clear trend" if estimate.seeds > 1 else "has one seed, too few to tell a trend"
        size = detectable(estimate.error, estimate.freedom) if estimate.seeds > 1 else np.nan
        said = would_have_seen("trend", size, digits, unit)
        return f"{why} ({signed(estimate.value, digits)}{unit}{bounds(estimate, digits)}{said})"
    verb = "rises" if estimate.value > 0 else "falls"
    return f"{verb} by {abs(estimate.value):.{digits}f}{unit}{bounds(estimate, digits)}"


def about_teachers(study: Study) -> str | None:
    """Return both slopes over the strength of the teacher, and a verdict on the paper's finding."""
    fits = {metric: fit for metric in OVER_TEACHERS if (fit := teachers_slope(study, metric)) is not None}
    if not fits:
        return None
    said = "; ".join(f"the student's {metric.title} {moved(fit, metric)}" for metric, fit in fits.items())
    own = teachers_own_slope(study, VQA)
    own = "" if own is None else f" (The teachers' own VQA accuracy changes by {signed(own)} points.)"
    judged = f" {verdict(fits)}" if study.has_vqa else ""
    teachers, seeds = len(study.main_sweep("teacher").cells), next(iter(fits.values())).seeds
    return (
        f"**Better teachers.** With each point that a teacher has more in zero-shot accuracy, {said}.{own}{judged} "
        f"({teachers} teachers, one of each strength; seeds of the students: {seeds}.)"
    )


def verdict(fits: dict[Metric, Estimate]) -> str:
    """
    Judge from the intervals if students follow their teachers in zero-shot, and less or not at all in VQA.

    VQA lags if its interval lies below that of zero-shot. A slope that is not clear is not enough: its interval may
    hold zero and the slope of zero-shot.
    """
    zero_shot, vqa = fits.get(ZERO_SHOT), fits.get(VQA)
    if zero_shot is None or vqa is None or not zero_shot.clear or zero_shot.value < 0 or vqa.seeds < 2:
        return "Whether the paper's finding appears, better zero-shot without better VQA, cannot be judged here."
    lags = vqa.high < zero_shot.low
    if vqa.clear and vqa.value < 0:
        return "The paper's finding appears, and more strongly: better teachers make students that are worse in VQA."
    if vqa.clear:
        if lags:
            return "The paper's finding appears in part: VQA gains, too, but clearly less than zero-shot."
        return "The paper's finding does not appear: VQA gains, too, and not clearly less than zero-shot."
    if lags:
        return (
            "The paper's finding appears: zero-shot follows the teacher, VQA clearly follows less, and no gain in it "
            f"can be told from chance (one of up to {vqa.high:.2f} points is not ruled out)."
        )
    return (
        "Whether the paper's finding appears is open: the interval of VQA holds no gain as well as one as large as "
        "that of zero-shot. More seeds would narrow it."
    )


def about_duration(study: Study) -> str | None:
    found = {metric: doubling(study, metric) for metric in OVER_DURATIONS}
    said = [
        f"{metric.title.replace(',', ' on')} {moved(fit, metric)}" for metric, fit in found.items() if fit is not None
    ]
    if not said:
        return None
    paper = (
        " In the paper zero-shot rises steadily, VQA barely; CKA rises on classification images and stays flat on VQA "
        "images."
    )
    return f"**Longer training.** With each doubling, {'; '.join(said)}.{paper if study.has_vqa else ''}"


def about_objectives(study: Study) -> str | None:
    """Return the best objective in each of the two scores."""
    if (comparison := compare(study, "objective")) is None:
        return None
    said = []
    for metric in (ZERO_SHOT, VQA):
        best = comparison.best(metric)
        if best is not None and comparison.rows[best][metric].difference is not None:
            against = _against(comparison.rows[best][metric])
            said.append(f"in {metric.title} {code(best)} has the highest mean, {against}")
    others = len(comparison.rows) - 1
    return (
        f"**Objectives.** Against {code(comparison.reference)}, of {others} others: {'; '.join(said)}."
        if said
        else None
    )


def about_data(study: Study) -> str | None:
    """Return each data mix compared with the first."""
    if (comparison := compare(study, "data")) is None:
        return None
    said = []
    for name, row in comparison.rows.items():
        parts = [
            f"in {metric.title} {_against(row[metric])}"
            for metric in (ZERO_SHOT, VQA)
            if metric in row and row[metric].difference is not None
        ]
        said += [f"{code(name)} {' and '.join(parts)}"] if parts else []
    return f"**Data.** Against {code(comparison.reference)}: {'; '.join(said)}." if said else None


def _against(score: Score) -> str:
    """Return a difference as text, `+1.2 points [+0.3, +2.1] (clear)`; all comparisons are corrected for."""
    difference = score.difference
    said = "clear" if score.mark else f"not clear{would_have_seen('difference', score.detectable, 1, ' points')}"
    return f"{signed(difference.value, 1)} points{bounds(difference, 1)} ({said})"


def about_cost(study: Study) -> str | None:
    """Return the sizes and scores of the student and the strongest of its teachers."""
    sweep = study.main_sweep("teacher", fewest=1)
    if sweep is None:
        return None
    teacher, cells = list(sweep.cells.items())[-1]
    large = cost_of([study.record["teachers"].get(teacher) or {}], "vision_parameters")
    small = cost_of(cells, "vision_parameters")
    if large is None or small is None:
        return None
    said = []
    for metric in (ZERO_SHOT, VQA):
        found, own = scores(cells, metric), study.teacher_score(teacher, metric)
        if found and np.isfinite(own):
            said.append(f"{metric.show(mean(found.values()))} against {metric.show(own)} in {metric.title}")
    return (
        f"**Size.** The vision encoder of student {code(sweep.fixed['student'])} has {count(small)} parameters, that "
        f"of teacher {code(teacher)} {count(large)}, {large / small:.1f} times as many: {'; '.join(said)}."
    )


def about_probes(study: Study) -> str | None:
    """Return the best probes, and the rank of zero-shot accuracy among them."""
    found = ranked(study)
    if not found:
        return None
    names = list(found)
    described = [f"{code(name)} ({signed(found[name][1].value)}{bounds(found[name][1])})" for name in names]
    text = "**Cheap probes of VQA.** Over the cells, the rank correlation with VQA accuracy is strongest for "
    text += described[0]
    text += f", then {' and '.join(described[1:3])}" if len(names) > 1 else ""
    place = names.index(ZERO_SHOT.title) if ZERO_SHOT.title in names else 0
    text += f"; zero-shot accuracy is number {place + 1} of {len(names)}: {described[place]}" if place > 2 else ""
    text += "."
    if len(names) > 1 and not _apart(found[names[0]][1], found[names[1]][1]):
        text += " The intervals of the first two overlap: which is the better one is open."
    return text


def _apart(first: Estimate, second: Estimate) -> bool:
    """Return whether the intervals of two strengths do not overlap; a strength has no sign."""
    low, high = zip(_strength_interval(first), _strength_interval(second), strict=True)
    return low[0] > high[1] or low[1] > high[0]


def _strength_interval(estimate: Estimate) -> tuple[float, float]:
    ends = abs(estimate.low), abs(estimate.high)
    return (min(ends) if estimate.clear else 0.0), max(ends)


FINDINGS: tuple[Callable[[Study], str | None], ...] = (
    about_teachers,
    about_duration,
    about_objectives,
    about_data,
    about_cost,
    about_probes,
)


def findings(study: Study) -> list[Markdown]:
    """Return a paragraph for each question that the study has the cells for."""
    return [Markdown(text) for about in FINDINGS if (text := about(study)) is not None]
