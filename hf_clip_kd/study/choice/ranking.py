"""Ranking of teachers by the pilots of a student, with intervals and with pairs that cannot be told apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from string import ascii_lowercase

import numpy as np

from ..estimates.power import Design, pooled, variances
from ..estimates.statistics import CONFIDENCE, Estimate, contrast, holm
from .pilots import ALONE
from .scores import OWN_METRICS, PILOT_METRICS, Scores


@dataclass(frozen=True)
class Pair:
    """Comparison of two rows of a ranking."""

    first: str = field(metadata={"help": "Name of the one with the higher score."})
    second: str = field(metadata={"help": "Name of the other."})
    difference: Estimate = field(metadata={"help": "First minus second, in points, paired by seed and image."})
    p_value: float = field(metadata={"help": "p-value of no difference, adjusted for the number of pairs."})
    seeds_needed: int | None = field(
        metadata={"help": "Seeds that show a difference of this size with the same images; `None` if no number does."}
    )
    images_needed: int | None = field(
        metadata={"help": "Held-out images that show it with the same seeds; `None` if no number does."}
    )

    @property
    def told_apart(self) -> bool:
        """`True` if chance hardly explains the difference. One seed tells nothing apart."""
        return self.difference.seeds > 1 and self.p_value < 1 - CONFIDENCE


@dataclass(frozen=True)
class Row:
    """One teacher, or the student alone."""

    name: str = field(metadata={"help": "Name of the teacher, or `alone`."})
    pilots: dict[str, Estimate] = field(metadata={"help": "Metric to the mean over seeds and images, in per cent."})
    by_seed: list[float] = field(metadata={"help": "The ranking metric of each seed, in per cent."})
    gain: Estimate | None = field(metadata={"help": "Points above the student alone; `None` for it."})
    own: dict[str, Estimate] = field(metadata={"help": "Metric to the teacher's own score, in per cent."})
    training_free: dict[str, float] = field(metadata={"help": "Scores of the teacher that need no training."})
    letters: str = field(metadata={"help": "Rows that share a letter cannot be told apart by the ranking metric."})
    other_letters: dict[str, str] = field(metadata={"help": "Other metric of the pilots to such letters."})
    seconds: float | None = field(metadata={"help": "Mean time of a pilot's training."})


@dataclass(frozen=True)
class Ranking:
    """Teachers and the student alone, the best pilot first."""

    metric: str = field(metadata={"help": "Metric of the pilots that ranks."})
    own_metric: str | None = field(
        metadata={"help": "Metric of the teachers themselves; `None` if none was measured."}
    )
    seeds: int = field(metadata={"help": "Number of seeds."})
    images: int = field(metadata={"help": "Number of held-out images behind the ranking metric."})
    rows: list[Row] = field(metadata={"help": "The best first."})
    pairs: list[Pair] = field(metadata={"help": "Each pair of rows, in their order."})
    detectable: float = field(
        metadata={"help": "Smallest difference, in points, that these seeds and images show with a power of 80 %."}
    )

    @property
    def best(self) -> list[str]:
        """Names of the first teacher and of all teachers that cannot be told from it."""
        first = next(row.name for row in self.rows if row.name != ALONE)
        alike = [pair for pair in self.pairs if first in (pair.first, pair.second) and not pair.told_apart]
        names = {first} | {name for pair in alike for name in (pair.first, pair.second)}
        return [row.name for row in self.rows if row.name in names - {ALONE}]


def rank(scores: Sequence[Scores]) -> Ranking:
    """
    Rank teachers and the student alone by the mean score of the pilots on held-out images.

    Intervals and differences are those of [`contrast`], a bootstrap over seeds and images. All rows have the same
    seeds and images. The p-values of all pairs are Holm's.

    Args:
        scores (`Sequence[Scores]`): The student alone and one teacher at least, with the same seeds and images.
    """
    metric = next(name for name in PILOT_METRICS if all(name in found.pilots for found in scores))
    own_metric = next((name for name in OWN_METRICS if any(name in found.own for found in scores)), None)
    ordered = sorted(scores, key=lambda found: -found.pilots[metric].mean())
    by_name = {found.name: 100 * found.pilots[metric] for found in ordered}
    pairs = _pairs(by_name)
    letters = _letters(by_name, pairs)
    others = {
        name: _letters_by(scores, name)
        for name in ordered[0].pilots
        if name != metric and all(name in found.pilots for found in scores)
    }
    rows = [
        Row(
            found.name,
            {name: _mean(values) for name, values in found.pilots.items()},
            by_name[found.name].mean(axis=1).tolist(),
            None if found.name == ALONE else contrast(np.stack([by_name[ALONE], by_name[found.name]]), (-1, 1)),
            {name: _mean(values) for name, values in found.own.items()},
            found.training_free,
            letters[found.name],
            {name: others[name][found.name] for name in others},
            found.seconds,
        )
        for found in ordered
    ]
    seeds, images = next(iter(by_name.values())).shape
    # A student alone may fail to start in one seed. Its luck is not that of two teachers' students.
    of_teachers = [pair for pair in pairs if ALONE not in (pair.first, pair.second)] or pairs
    found = pooled([variances((by_name[pair.first] - by_name[pair.second])[:, None, :]) for pair in of_teachers])
    detectable = found.detectable(Design(seeds, 1, images)) if seeds > 1 else math.nan
    return Ranking(metric, own_metric, seeds, images, rows, pairs, detectable)


def letter_groups(names: Sequence[str], apart: Sequence[tuple[str, str]]) -> dict[str, str]:
    """
    Return letters such that two names share one if and only if they cannot be told apart.

    This is the insert-and-absorb algorithm of [Piepho 2004](https://doi.org/10.1198/1061860043515).

    Args:
        names (`Sequence[str]`): All names, the best first.
        apart (`Sequence[tuple[str, str]]`): Pairs that can be told apart.

    Returns:
        `dict[str, str]`: Name to its letters; `a` belongs to the best.
    """
    groups = [frozenset(names)]
    for pair in apart:
        split = [
            part for group in groups for part in ([group - {name} for name in pair] if group >= {*pair} else [group])
        ]
        distinct = list(dict.fromkeys(split))
        groups = [group for group in distinct if not any(group < other for other in distinct)]
    position = {name: place for place, name in enumerate(names)}
    groups.sort(key=lambda group: sorted(position[name] for name in group))
    lettered = list(zip(ascii_lowercase, groups, strict=False))
    return {name: "".join(letter for letter, group in lettered if name in group) for name in names}


def needed(effects: np.ndarray) -> tuple[int | None, int | None]:
    """
    Return the seeds, and the images, that would show the mean of paired differences with a power of 80 %.

    Args:
        effects (`np.ndarray` of shape `(seeds, images)`): Differences of two rows; 2 seeds and 2 images at least.

    Returns:
        `tuple`: seeds with the images as they are, and images with the seeds as they are. Each is at least the present
        number, and `None` if no number is enough.
    """
    design = Design(effects.shape[0], 1, effects.shape[1])
    found, difference = pooled([variances(effects[:, None, :])]), abs(float(effects.mean()))
    numbers = found.seeds_for(difference, design), found.images_for(difference, design)
    present = design.seeds, design.images
    return tuple(None if more is None else max(more, now) for more, now in zip(numbers, present, strict=True))


def _letters_by(scores: Sequence[Scores], metric: str) -> dict[str, str]:
    ordered = sorted(scores, key=lambda found: -found.pilots[metric].mean())
    by_name = {found.name: 100 * found.pilots[metric] for found in ordered}
    return _letters(by_name, _pairs(by_name))


def _letters(by_name: dict[str, np.ndarray], pairs: list[Pair]) -> dict[str, str]:
    return letter_groups(list(by_name), [(pair.first, pair.second) for pair in pairs if pair.told_apart])


def _mean(values: np.ndarray) -> Estimate:
    return contrast(100 * values[None], (1,))


def _pairs(by_name: dict[str, np.ndarray]) -> list[Pair]:
    names = list(combinations(by_name, 2))
    differences = [contrast(np.stack([by_name[first], by_name[second]]), (1, -1)) for first, second in names]
    adjusted = holm([1.0 if math.isnan(found.p_value) else found.p_value for found in differences])
    more = [
        needed(by_name[first] - by_name[second]) if min(by_name[first].shape) > 1 else (None, None)
        for first, second in names
    ]
    return [
        Pair(*pair, difference, float(p_value), *numbers)
        for pair, difference, p_value, numbers in zip(names, differences, adjusted, more, strict=True)
    ]
