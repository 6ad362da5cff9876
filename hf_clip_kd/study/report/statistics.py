"""Intervals of a study's numbers: paired contrasts between conditions, trends and rank correlations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number, its interval, and the chance of one as far from zero without any effect."""

    value: float = field(metadata={"help": "The number itself, in the unit of the measurement."})
    low: float = field(metadata={"help": "Lower end of the 95% interval; nan without repetition."})
    high: float = field(metadata={"help": "Upper end."})
    p_value: float = field(metadata={"help": "p-value of no effect, two-sided, in [0, 1]; nan if unknown."})
    seeds: int = field(
        metadata={"help": "Number of seeds or conditions. The interval of one seed is that of the questions."}
    )

    @property
    def clear(self) -> bool:
        """`True` if the interval leaves out zero and there are several seeds."""
        return self.seeds > 1 and (self.low > 0 or self.high < 0)


def contrast(outcomes: np.ndarray, weights: Sequence[float], *, n_resamples: int = 1000, seed: int = 0) -> Estimate:
    """
    Return a weighted sum of the means of several conditions, with its interval.

    The weights (-1, 1) give a difference, [`slope_weights`] a slope.

    The conditions are paired by seed and by question. The luck of a seed and the difficulty of a question cancel. The
    standard error comes from a bootstrap that draws seeds and questions independently of each other ([Owen
    2007](https://doi.org/10.1214/07-AOAS122); a little wide, never narrow). Seeds are few, so they are drawn as in the
    bootknife ([Hesterberg 2014](https://huggingface.co/papers/1411.5279): one is left out at random first). Its
    variance is unbiased. The interval and the p-value are Student's, with the degrees of freedom of Welch and
    Satterthwaite. Percentiles of the draws would report chance: one triple of seeds in four agrees by chance.

    Args:
        outcomes (`np.ndarray` of shape `(conditions, seeds, questions)`):
            Scores. A run with a mean only has one question, and only seeds are drawn.
        weights (`Sequence[float]`): One per condition.
        n_resamples (`int`, *optional*, defaults to `1000`): Number of draws.
        seed (`int`, *optional*, defaults to `0`): Makes the draws repeatable.

    Returns:
        [`Estimate`]: The sum; one seed and one question give no interval.
    """
    effects = np.tensordot(np.asarray(weights, float), np.asarray(outcomes, float), axes=1)
    seeds, questions = effects.shape
    value = float(effects.mean())
    if effects.size == 1:
        return Estimate(value, np.nan, np.nan, np.nan, seeds)
    rng = np.random.default_rng(seed)
    leave_out = min(1, seeds - 1)
    draws = [_drawn(rng, seeds, leave_out) @ effects @ _drawn(rng, questions) for _ in range(n_resamples)]
    error = float(np.std(draws, ddof=1))
    if error <= 1e-12 * np.abs(effects).max():  # All seeds and all questions are alike.
        return Estimate(value, value, value, 0.0 if value else 1.0, seeds)
    freedom = _degrees_of_freedom(effects)
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * error
    p_value = 2 * stats.t.sf(abs(value) / error, freedom)
    return Estimate(value, value - reach, value + reach, float(p_value), seeds)


def _drawn(rng: np.random.Generator, count: int, leave_out: int = 0) -> np.ndarray:
    """Return weights of sum 1 of a draw of `count` with replacement; `leave_out` random entries are never drawn."""
    urn = rng.permutation(count)[leave_out:] if leave_out else np.arange(count)
    return np.bincount(urn[rng.integers(len(urn), size=count)], minlength=count) / count


def _degrees_of_freedom(effects: np.ndarray) -> float:
    """Return Welch's and Satterthwaite's degrees of freedom of a mean over seeds and questions."""
    repeated = [means for means in (effects.mean(axis=1), effects.mean(axis=0)) if len(means) > 1]
    variances = np.array([means.var(ddof=1) / len(means) for means in repeated])
    freedom = np.array([len(means) - 1 for means in repeated])
    return variances.sum() ** 2 / (variances**2 / freedom).sum()


def slope_weights(x: Sequence[float]) -> np.ndarray:
    """
    Return the weights `(conditions,)` of [`contrast`] for the slope of a least-squares line through the conditions.

    Raises:
        ValueError: `x`, the places of the conditions, has no two different values.
    """
    x = np.asarray(x, float)
    centred = x - x.mean()
    if not np.ptp(x):
        raise ValueError(
            f"`x={x.tolist()}` has one value. A slope needs conditions at two places at least. Pass more conditions, "
            "or none."
        )
    return centred / (centred @ centred)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """
    Return p-values adjusted for their number ([Holm 1979](https://www.jstor.org/stable/4615733)).

    A false finding among all of them is as rare as in one test.
    """
    p_values = np.asarray(p_values, float)
    order = np.argsort(p_values)
    stepped = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def rank_correlation(
    x: np.ndarray, y: np.ndarray, groups: Sequence, *, n_resamples: int = 1000, seed: int = 0
) -> Estimate:
    """
    Return Spearman's rank correlation, with a percentile bootstrap interval over groups of cells.

    A condition is drawn with all of its seeds. Cells that differ in their seed alone are near copies. Drawn one by one
    they would make the interval too narrow.

    Args:
        x, y (`np.ndarray` of shape `(cells,)`): The two numbers of each cell.
        groups (`Sequence`): The condition of each cell, of the same length.
        n_resamples, seed: See [`contrast`].

    Returns:
        [`Estimate`] in [-1, 1], without a p-value; its `seeds` is the number of groups. It is nan for fewer than three
        cells or a constant. Its interval is nan for fewer than three groups, and if all draws give the same value.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    members = np.unique([str(group) for group in groups], return_inverse=True)[1]
    size = int(members.max()) + 1
    if len(x) < 3 or not np.ptp(x) or not np.ptp(y):
        return Estimate(np.nan, np.nan, np.nan, np.nan, size)
    value = float(_weighted_spearman(x, y, np.ones((1, len(x))))[0])
    if size < 3:
        return Estimate(value, np.nan, np.nan, np.nan, size)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(size, np.full(size, 1 / size), size=n_resamples)[:, members]
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.nanpercentile(_weighted_spearman(x, y, counts), [tail, 100 - tail])
    if np.isclose(low, high):
        low = high = np.nan
    return Estimate(value, float(low), float(high), np.nan, size)


def _weighted_spearman(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return Spearman's correlations, `(draws,)`, nan of a constant; `counts`, `(draws, cells)`, repeats each cell."""
    ranks = [_weighted_ranks(values, counts) for values in (x, y)]
    total = counts.sum(axis=1, keepdims=True)
    a, b = (rank - (rank * counts).sum(axis=1, keepdims=True) / total for rank in ranks)
    with np.errstate(invalid="ignore"):  # A draw with one value gives 0 / 0.
        return (counts * a * b).sum(1) / np.sqrt((counts * a**2).sum(1) * (counts * b**2).sum(1))


def _weighted_ranks(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the rank of each cell in each sample, `(draws, cells)`; equal values share their mean rank."""
    codes = np.unique(values, return_inverse=True)[1]
    tied = counts @ np.eye(codes.max() + 1)[codes]
    return (tied.cumsum(axis=1) - tied + (tied + 1) / 2)[:, codes]
