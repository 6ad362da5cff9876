"""Numbers of each objective beside the base objective's: slope, difference, and share of the lead that arrives."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace

import numpy as np

from ..cells.cells import Study
from ..cells.metrics import QUESTION_PROBE, ZERO_SHOT, Metric
from ..cells.towers import own_record
from .equal_time import all_lengths, at_seconds, seconds_of
from .lead import lead_over, share_of
from .objectives import Group, Taught, difference, groups, line, several, slope
from .power import LEVEL
from .statistics import Estimate, holm

GOAL = 0.85  # Share of the strongest teacher's lead that an objective is wanted to hand on.


@dataclass(frozen=True)
class Judged:
    """One objective beside the base objective and a student alone, of equally many steps or seconds of training."""

    difference: Estimate | None = field(
        metadata={"help": "Slope less that of the base objective; `None` for the base objective itself."}
    )
    share: Estimate | None = field(
        metadata={"help": "Share of the strongest teacher's lead that arrives; `None` if there is no clear lead."}
    )
    adjusted: float = field(default=np.nan, metadata={"help": "p-value of the difference after Holm's correction."})

    @property
    def mark(self) -> str:
        """`▲` if the slope is clearly above that of the base objective, `▼` if clearly below; of one seed nothing."""
        if self.difference is None or self.difference.seeds < 2 or not self.adjusted < LEVEL:
            return ""
        return "▲" if self.difference.value > 0 else "▼"

    @property
    def reaches_goal(self) -> bool:
        """`True` if the slope is clearly above that of the base objective, and the share is that of the goal."""
        return self.mark == "▲" and self.share is not None and self.share.value >= GOAL


@dataclass(frozen=True)
class Result:
    """One objective in one score."""

    objective: str = field(metadata={"help": "Its name in the study."})
    slope: Estimate | None = field(
        metadata={"help": "Gain for each unit that the teacher has more in the same score, of three teachers or more."}
    )
    strongest: str | None = field(metadata={"help": "The teacher with the best score of its own."})
    seconds: float | None = field(metadata={"help": "Median seconds of a student's training."})
    steps: Judged = field(metadata={"help": "Comparison at equally many steps."})
    time: Judged = field(metadata={"help": "Comparison at equally many seconds."})


@functools.cache
def results(study: Study, group: Group, metric: Metric) -> tuple[Result, ...]:
    """
    Return the numbers of each objective with a teacher, those of the base objective first.

    Holm's method corrects the p-values of the differences for the number of objectives.
    """
    base = several(group)[0]
    found = [_result(study, group, objective, base, metric) for objective in group.taught]
    found = sorted(found, key=lambda result: result.objective != base)
    steps, time = (_adjusted([getattr(result, kind) for result in found]) for kind in ("steps", "time"))
    return tuple(
        replace(result, steps=steps, time=time) for result, steps, time in zip(found, steps, time, strict=True)
    )


def _adjusted(found: list[Judged]) -> list[Judged]:
    p_values = {
        number: judged.difference.p_value
        for number, judged in enumerate(found)
        if judged.difference is not None and not np.isnan(judged.difference.p_value)
    }
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True)) if p_values else {}
    return [replace(judged, adjusted=float(adjusted.get(number, np.nan))) for number, judged in enumerate(found)]


def asked(study: Study) -> list[tuple[str, Group, Metric]]:
    """
    Return the scores that objectives are compared by, each with a title and the students that have it.

    The meter comes first, then the meter with each other language model. A title says which one, also in a run of
    fewer cells. What tokens hold and zero-shot accuracy depend on no language model.
    """
    found = groups(study)
    if not found:
        return []
    # A probe needs no language model, so it is the same with each.
    readers = found if study.has_vqa and study.meter != QUESTION_PROBE else found[:1]
    choice = len(study.record["config"].get("language_models") or ()) > 1
    names = [f", {group.axes['language_model']}" if choice else "" for group in readers]
    scored = [(study.meter.title + name, group, study.meter) for name, group in zip(names, readers, strict=True)]
    scored += [(metric.title, found[0], metric) for metric in (QUESTION_PROBE, ZERO_SHOT) if metric != study.meter]
    return [
        (title, group, metric)
        for title, group, metric in scored
        if any(line(study, group, taught, metric) is not None for taught in group.taught.values())
    ]


def untaught_share(study: Study, group: Group, cells: list[dict], metric: Metric) -> Estimate | None:
    """Return the share of a lead that an objective without a teacher reaches, that of the base's strongest teacher."""
    teacher = strongest(study, group, group.taught[several(group)[0]], metric)
    return None if teacher is None else _share(study, group, teacher, cells, group.alone, metric)


def untaught_results(study: Study, group: Group, metric: Metric) -> list[Result]:
    """Return the objectives without a teacher but the student alone, with their shares as their only scores."""
    return [
        Result(
            objective,
            slope=None,
            strongest=None,
            seconds=seconds_of(cells),
            steps=Judged(None, untaught_share(study, group, cells, metric)),
            time=Judged(None, None),
        )
        for objective, cells in list(group.untaught.items())[1:]
    ]


def strongest(study: Study, group: Group, taught: Taught, metric: Metric) -> str | None:
    """Return the teacher with the best score of its own, of those whose students have the score."""
    own = {
        teacher: metric.better(value)
        for teacher, cells in taught.items()
        if np.isfinite(value := study.own_score(teacher, group.axes, metric))
        and any(metric.of(cell) is not None for cell in cells)
    }
    return max(own, key=own.get, default=None)


def _result(study: Study, group: Group, objective: str, base: str, metric: Metric) -> Result:
    taught = group.taught[objective]
    fitted, teacher = line(study, group, taught, metric), strongest(study, group, taught, metric)
    seconds = seconds_of(cell for cells in taught.values() for cell in cells)

    def judged(others: Taught, alone: list[dict] | None) -> Judged:
        compared = fitted is not None and objective != base
        return Judged(
            difference(study, group, fitted, others, metric) if compared else None,
            _share(study, group, teacher, taught[teacher], alone, metric) if teacher and alone else None,
        )

    def timed(cells: list[dict]) -> list[dict] | None:
        return at_seconds(all_lengths(study, cells), seconds) if cells else None

    others = {name: found for name, cells in group.taught[base].items() if (found := timed(cells))}
    return Result(
        objective,
        slope(study, fitted, metric) if fitted else None,
        teacher,
        seconds,
        judged(group.taught[base], group.alone),
        judged(others, timed(group.alone)),
    )


def _share(
    study: Study, group: Group, teacher: str, cells: list[dict], alone: list[dict], metric: Metric
) -> Estimate | None:
    axes = group.axes | {"teacher": teacher}
    lead = lead_over(own_record(study.record, axes), alone, metric)
    return share_of(study.record, axes, cells, alone, metric, lead)
