"""Findings of a study in sentences; each gives a number, its interval and no more than these allow."""

from __future__ import annotations

from collections.abc import Callable
from statistics import mean

import numpy as np

from ...hub.cards.markdown import Markdown, code, count
from ..cells.cells import Study, scores
from ..cells.metrics import CKA, QUESTION_PROBE, VQA, ZERO_SHOT, Metric, signed
from ..estimates.comparison import compare
from ..estimates.slopes import equal_size, repeats, sizes, teachers_own_slope, teachers_slope
from ..estimates.statistics import Estimate
from ..estimates.trends import OVER_DURATIONS, doubling
from .figures.cost import cost_of
from .figures.probes import named, predicted, ranked
from .meter_findings import about_holding, about_lead, about_meter, about_reading, about_types
from .objective_tables import about_goal
from .sentences import against, bounds, moved


def about_teachers(study: Study) -> str | None:
    """Return the slopes over the teachers' zero-shot accuracy, and a verdict on the paper's finding."""
    asked = (ZERO_SHOT, study.meter) if study.has_vqa else (ZERO_SHOT, QUESTION_PROBE)
    fits = {metric: fit for metric in asked if (fit := teachers_slope(study, metric)) is not None}
    if not fits:
        return None
    said = "; ".join(f"the student's {metric.title} {moved(fit, metric)}" for metric, fit in fits.items())
    own = teachers_own_slope(study, study.meter)
    unit = f" {study.meter.unit}" if study.meter.unit else ""
    own = "" if own is None else f" (The teachers' own {study.meter.title} changes by {signed(own)}{unit}.)"
    judged = f" {verdict(fits, study.meter)}" if study.has_vqa else ""
    seeds = next(iter(fits.values())).seeds
    return (
        f"**Better teachers.** With each point that a teacher has more in zero-shot accuracy, {said}.{own}{judged}"
        f"{_size(study)} ({repeats(study)}; seeds of the students: {seeds}.)"
    )


def _size(study: Study) -> str:
    """Return the slopes among teachers of equal size, or that size and strength cannot be told apart."""
    groups, alike = sizes(study), equal_size(study)
    if len(groups) < 2:
        return ""
    if alike is None:
        return " Each teacher has another size, so size and strength cannot be told apart here."
    asked = (ZERO_SHOT, study.meter)
    fits = {metric: fit for metric in asked if (fit := teachers_slope(study, metric, among=alike)) is not None}
    said = "; ".join(f"{metric.title} {moved(fit, metric)}" for metric, fit in fits.items())
    names = ", ".join(code(name) for name in alike)
    return f" Among {names}, which are equally large, the student's {said}." if said else ""


def verdict(fits: dict[Metric, Estimate], meter: Metric = VQA) -> str:
    """
    Judge from the intervals if students follow their teachers in zero-shot, and less or not at all in VQA.

    VQA lags if its interval lies below that of zero-shot. A slope that is not clear is not enough: its interval may
    hold zero and the slope of zero-shot. Bits have another unit, so they cannot lag.

    Args:
        fits (`dict[Metric, Estimate]`): Slopes of zero-shot accuracy and of the meter.
        meter ([`Metric`], *optional*): Number that VQA is judged by.
    """
    zero_shot, vqa = fits.get(ZERO_SHOT), fits.get(meter)
    if zero_shot is None or vqa is None or not zero_shot.clear or zero_shot.value < 0 or vqa.seeds < 2:
        return "Whether the paper's finding appears, better zero-shot without better VQA, cannot be judged here."
    lags = meter.unit == ZERO_SHOT.unit and vqa.high < zero_shot.low
    if vqa.clear and meter.better(vqa.value) < 0:
        return "The paper's finding appears, and more strongly: better teachers make students that are worse in VQA."
    if vqa.clear:
        if lags:
            return "The paper's finding appears in part: VQA gains, too, but clearly less than zero-shot."
        than = ", and not clearly less than zero-shot" if meter.unit == ZERO_SHOT.unit else ""
        return f"The paper's finding does not appear: VQA gains, too{than}."
    if lags:
        return (
            "The paper's finding appears: zero-shot follows the teacher, VQA clearly follows less, and no gain in it "
            f"can be told from chance (one of up to {vqa.high:.2f} points is not ruled out)."
        )
    if meter.unit != ZERO_SHOT.unit:
        return "Whether the paper's finding appears is open: no trend of VQA can be told from chance."
    return (
        "Whether the paper's finding appears is open: the interval of VQA holds no gain as well as one as large as "
        "that of zero-shot. More seeds would narrow it."
    )


def about_duration(study: Study) -> str | None:
    # The findings speak of one number of VQA, and the tables of all.
    asked = [metric for metric in OVER_DURATIONS if metric in (ZERO_SHOT, study.meter, QUESTION_PROBE, *CKA.values())]
    found = {metric: doubling(study, metric) for metric in asked}
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
    for metric in (ZERO_SHOT, study.meter):
        best = comparison.best(metric)
        if best is not None and comparison.rows[best][metric].difference is not None:
            word = "best" if metric.lower_is_better else "highest"
            gap = against(comparison.rows[best][metric])
            said.append(f"in {metric.title} {code(best)} has the {word} mean, {gap}")
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
            f"in {metric.title} {against(row[metric])}"
            for metric in (ZERO_SHOT, study.meter)
            if metric in row and row[metric].difference is not None
        ]
        said += [f"{code(name)} {' and '.join(parts)}"] if parts else []
    return f"**Data.** Against {code(comparison.reference)}: {'; '.join(said)}." if said else None


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
    for metric in (ZERO_SHOT, study.meter):
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
    described = {name: f"{code(name)} ({signed(fit.value)}{bounds(fit)})" for name, (_, fit) in found.items()}
    first = list(described.values())
    text = "**Cheap probes of VQA.** Over the cells, the rank correlation with "
    text += f"{predicted(study).title} is strongest for {first[0]}"
    text += f", then {' and '.join(first[1:3])}" if len(names) > 1 else ""
    text += "."
    if len(names) > 1 and not _apart(found[names[0]][1], found[names[1]][1]):
        text += " The intervals of the first two overlap: which is the better one is open."
    rest = [f"number {names.index(name) + 1} is {described[name]}" for name in named(found) if name not in names[:3]]
    text += f" Of {len(names)}, {', '.join(rest)}." if rest else ""
    if predicted(study).lower_is_better:
        text += " Plus means that a larger number goes with fewer bits."
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
    about_goal,
    about_holding,
    about_reading,
    about_lead,
    about_duration,
    about_objectives,
    about_data,
    about_cost,
    about_probes,
    about_types,
    about_meter,
)


def findings(study: Study) -> list[Markdown]:
    """Return a paragraph for each question that the study has the cells for."""
    return [Markdown(text) for about in FINDINGS if (text := about(study)) is not None]
