"""Slopes of students over their teachers: strength by three scores, size kept apart, repeats of a strength drawn."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

import numpy as np

from ..cells.cells import Study, scores
from ..cells.metrics import ZERO_SHOT, Metric
from .outcomes import estimate
from .statistics import Estimate, slope_weights, with_variance


@dataclass(frozen=True)
class Repeats:
    """Number of teachers and of strengths in a fit."""

    teachers: int = field(metadata={"help": "Number of teachers."})
    strengths: int = field(metadata={"help": "Number of different strengths."})

    def __str__(self) -> str:
        if self.teachers == self.strengths:
            return f"{self.teachers} teachers, one of each strength"
        return (
            f"{self.teachers} teachers of {self.strengths} strengths; intervals hold other teachers of a strength, too"
        )


@functools.cache
def teachers_slope(
    study: Study, metric: Metric, against: Metric = ZERO_SHOT, among: tuple[str, ...] | None = None, number: int = 0
) -> Estimate | None:
    """
    Return the student's gain for each unit that its teacher has more in a score of its own.

    The slope is a least-squares fit over the means of the teachers; fewer than two give `None`. The interval covers
    other seeds (and questions). It covers other teachers of the same strength where a strength has several.

    Args:
        metric ([`Metric`]): Score of the students.
        against ([`Metric`], *optional*, defaults to zero-shot accuracy): Score of the teachers.
        among (`tuple[str, ...]`, *optional*): Teachers to fit. Default is all.
        number (`int`, *optional*, defaults to 0): Place among the study's sweeps over teachers.
    """
    sweeps = study.sweeps("teacher")[number : number + 1]
    known = {
        teacher: cells
        for sweep in sweeps
        for teacher, cells in sweep.cells.items()
        if scores(cells, metric) and (among is None or teacher in among)
    }
    x = np.array([study.own_score(teacher, sweep.fixed, against) for sweep in sweeps for teacher in known])
    if len(known) < 2 or not np.isfinite(x).all() or not np.ptp(x):
        return None
    fit = estimate(list(known.values()), metric, slope_weights(x))
    if fit is None:
        return None
    y = np.array([mean(scores(cells, metric).values()) for cells in known.values()])
    return widened(fit, x, y, [strength(study, teacher) for teacher in known])


def widened(fit: Estimate, x: np.ndarray, y: np.ndarray, strengths: Sequence[str]) -> Estimate:
    """
    Return a slope whose interval also covers the draw of teachers, as far as strengths have several.

    The variance between teachers is that of the residuals within a strength. The draw of each teacher adds it to the
    slope with the square of the teacher's weight. Degrees of freedom are Welch's and Satterthwaite's.

    Args:
        x, y (`np.ndarray` of shape `(teachers,)`): Places and means that the slope was fitted to.
        strengths (`Sequence[str]`): Strength of each teacher.
    """
    return with_variance(fit, *draw_of_teachers(x, y - fit.value * x, strengths))


def draw_of_teachers(x: np.ndarray, rest: np.ndarray, strengths: Sequence[str]) -> tuple[float, int]:
    """
    Return the variance of a slope by the draw of teachers, with its degrees of freedom; zeros without repeats.

    Args:
        x, rest (`np.ndarray` of shape `(teachers,)`): Places of the teachers, and their means less the fitted line.
        strengths (`Sequence[str]`): Strength of each teacher.
    """
    groups = [np.array([strength == name for strength in strengths]) for name in dict.fromkeys(strengths)]
    freedom = len(strengths) - len(groups)
    if not freedom:
        return 0.0, 0
    between = sum(((rest[group] - rest[group].mean()) ** 2).sum() for group in groups) / freedom
    return float(between * (slope_weights(x) ** 2).sum()), freedom


def teachers_own_slope(study: Study, metric: Metric) -> float | None:
    """Return the gain of the main sweep's teachers for each point of zero-shot accuracy: a limit for students."""
    sweep = study.main_sweep("teacher")
    teachers = sweep.cells if sweep else {}
    pairs = [(study.teacher_score(teacher, ZERO_SHOT), study.teacher_score(teacher, metric)) for teacher in teachers]
    x, y = np.array([pair for pair in pairs if np.isfinite(pair).all()]).reshape(-1, 2).T
    return float(slope_weights(x) @ y) if len(x) > 1 and np.ptp(x) else None


def repeats(study: Study) -> Repeats:
    """Return the numbers of teachers and strengths of the main sweep."""
    teachers = list(study.main_sweep("teacher").cells)
    return Repeats(len(teachers), len({strength(study, teacher) for teacher in teachers}))


def sizes(study: Study) -> list[tuple[str, ...]]:
    """Return the main sweep's teachers, those with equally many parameters of the vision encoder together."""
    sweep = study.main_sweep("teacher")
    return by_size(study, sweep.cells if sweep else ())


def by_size(study: Study, teachers: Iterable[str]) -> list[tuple[str, ...]]:
    """Return teachers in groups of equally many parameters of the vision encoder."""
    groups: dict[Any, list[str]] = {}
    for teacher in teachers:
        cost = study.record["teachers"].get(teacher, {}).get("cost") or {}
        groups.setdefault(cost.get("vision_parameters"), []).append(teacher)
    return [tuple(group) for group in groups.values()]


def equal_size(study: Study) -> tuple[str, ...] | None:
    """Return the largest group of equally large teachers, if there are several sizes and it has two."""
    groups = sizes(study)
    largest = max(groups, key=len, default=())
    return largest if len(groups) > 1 and len(largest) > 1 else None


def strength(study: Study, teacher: str) -> str:
    """Return the strength of which a teacher is a repeat; default is its own name."""
    return (study.record["teachers"].get(teacher) or {}).get("strength") or teacher
