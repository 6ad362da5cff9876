"""Objectives side by side: students that differ in objective and teacher only, and their slopes over the teachers."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..cells.cells import AXES, Study, scores
from ..cells.metrics import Metric
from .outcomes import estimate
from .slopes import by_size, draw_of_teachers, strength, widened
from .statistics import Estimate, slope_weights, with_variance

SAME = tuple(axis for axis in AXES if axis not in ("teacher", "objective"))
Taught = dict[str, list[dict]]
FEWEST_TEACHERS = 3  # A slope between two is mostly the luck of both.


@dataclass(frozen=True, eq=False)  # It equals itself alone, so functions of it can be cached.
class Group:
    """Students that differ in objective, teacher and seed only."""

    axes: dict[str, Any] = field(metadata={"help": "The values that all of them share."})
    taught: dict[str, Taught] = field(
        metadata={"help": "Objective to teacher to cells; the base objective first, the weakest teacher first."}
    )
    untaught: dict[str, list[dict]] = field(metadata={"help": "Objective without a teacher to cells; alone first."})

    @property
    def alone(self) -> list[dict]:
        """Cells of the student alone, none if the study has no such student."""
        return next(iter(self.untaught.values()), [])


@dataclass(frozen=True, eq=False)
class Line:
    """Means of students over their teachers' own scores, which a slope is fitted to."""

    teachers: tuple[str, ...] = field(metadata={"help": "Names of the teachers."})
    places: np.ndarray = field(metadata={"help": "`(teachers,)`: their own scores."})
    students: tuple[list[dict], ...] = field(metadata={"help": "The cells of each teacher's students."})

    @property
    def weights(self) -> np.ndarray:
        """Weights of the teachers' means in the slope."""
        return slope_weights(self.places)

    def means(self, metric: Metric) -> np.ndarray:
        """Return the mean score of each teacher's students."""
        return np.array([np.mean(list(scores(cells, metric).values())) for cells in self.students])


@functools.cache
def groups(study: Study) -> tuple[Group, ...]:
    """
    Return the largest group in which several objectives have several teachers, once for each language model.

    The first is that of the first reading and language model. There is none if one objective alone has a slope.
    """
    found: dict[tuple, Group] = {}
    for cell in study.cells:
        axes = cell["axes"]
        group = found.setdefault(_key(axes), Group({axis: axes.get(axis) for axis in SAME}, {}, {}))
        if axes["teacher"] is None:
            group.untaught.setdefault(axes["objective"], []).append(cell)
        else:
            group.taught.setdefault(axes["objective"], {}).setdefault(axes["teacher"], []).append(cell)
    ordered = [_ordered(study, group) for group in found.values()]
    first = study.cells[0]["axes"].get("language_model")
    main = max(
        (group for group in ordered if len(several(group)) > 1),
        key=lambda group: (
            group.axes["reading"] == study.reading,
            group.axes["language_model"] == first,
            len(several(group)),
            sum(len(cells) for taught in group.taught.values() for cells in taught.values()),
        ),
        default=None,
    )
    if main is None:
        return ()
    alike = main.axes | {"language_model": None}
    return (
        main,
        *(
            group
            for group in ordered
            if group is not main and group.axes | {"language_model": None} == alike and len(several(group)) > 1
        ),
    )


def _key(axes: dict[str, Any]) -> tuple:
    return tuple(axes.get(axis) for axis in SAME)


def several(group: Group) -> list[str]:
    """Return the objectives with enough teachers for a slope, the base objective first."""
    return [objective for objective, taught in group.taught.items() if len(taught) >= FEWEST_TEACHERS]


def _ordered(study: Study, group: Group) -> Group:
    """Return the group with the base objective first, and the weakest teacher first."""

    def worth(teacher: str) -> float:
        own = study.own_score(teacher, group.axes, study.meter)
        return study.meter.better(own) if np.isfinite(own) else -np.inf

    objectives = sorted(group.taught, key=lambda name: name != study.base)
    taught = {
        name: {teacher: group.taught[name][teacher] for teacher in sorted(group.taught[name], key=worth)}
        for name in objectives
    }
    return replace(group, taught=taught)


def line(study: Study, group: Group, taught: Taught, metric: Metric) -> Line | None:
    """
    Return the points of a slope: the teachers of equal size, or all if no three are equally large.

    Args:
        taught (`dict[str, list[dict]]`): Cells of an objective's students, by teacher.

    Returns:
        [`Line`]: `None` for fewer than three teachers with scores of their own, or if all of these are equal.
    """
    known = _known(study, group, taught, metric)
    alike = max(by_size(study, known), key=len, default=())
    chosen = alike if len(alike) >= FEWEST_TEACHERS else known
    return _line(study, group, {name: known[name] for name in chosen}, metric)


def _known(study: Study, group: Group, taught: Taught, metric: Metric) -> Taught:
    return {
        teacher: cells
        for teacher, cells in taught.items()
        if scores(cells, metric) and np.isfinite(study.own_score(teacher, group.axes, metric))
    }


def _line(study: Study, group: Group, taught: Taught, metric: Metric) -> Line | None:
    places = np.array([study.own_score(teacher, group.axes, metric) for teacher in taught])
    if len(taught) < FEWEST_TEACHERS or not np.ptp(places):
        return None
    return Line(tuple(taught), places, tuple(taught.values()))


def slope(study: Study, fitted: Line, metric: Metric) -> Estimate | None:
    """Return the gain of the students for each unit that their teacher has more in the same score."""
    found = estimate(fitted.students, metric, fitted.weights)
    return found and widened(found, fitted.places, fitted.means(metric), _strengths(study, fitted))


def difference(study: Study, group: Group, fitted: Line, base: Taught, metric: Metric) -> Estimate | None:
    """
    Return a slope less that of the base objective, paired by seed and question.

    Both are fitted to the same teachers. A lifted teacher that the base lacks stands beside its origin. It is left out
    if the objective has the origin, too. If both have no three teachers in common, each is fitted to its own. With the
    same teachers, the luck of a teacher cancels as far as both objectives share it.

    Args:
        fitted ([`Line`]): The line of the objective.
        base (`dict[str, list[dict]]`): Cells of the base objective's students, by teacher.
    """
    base = _known(study, group, base, metric)
    partners: dict[str, str] = {}
    for name in sorted(fitted.teachers, key=lambda name: name not in base):  # First those that both have.
        partners.setdefault(name if name in base else study.lifted_from(name), name)
    common = [teacher for teacher in base if teacher in partners]
    own = {partners[teacher]: fitted.students[fitted.teachers.index(partners[teacher])] for teacher in common}
    same = _line(study, group, own, metric), _line(study, group, {name: base[name] for name in common}, metric)
    first, second = (fitted, line(study, group, base, metric)) if None in same else same
    if second is None:
        return None
    found = estimate([*first.students, *second.students], metric, [*first.weights, *-second.weights])
    if found is None:
        return None
    if first.teachers == second.teachers:
        gaps = first.means(metric) - second.means(metric)
        return widened(found, first.places, gaps, _strengths(study, first))
    for side in (first, second):
        means = side.means(metric)
        rest = means - float(side.weights @ means) * side.places
        found = with_variance(found, *draw_of_teachers(side.places, rest, _strengths(study, side)))
    return found


def _strengths(study: Study, fitted: Line) -> list[str]:
    return [strength(study, teacher) for teacher in fitted.teachers]
