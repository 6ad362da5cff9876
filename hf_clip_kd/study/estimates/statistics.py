"""Intervals of a study's numbers: paired contrasts between conditions, trends and rank correlations."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

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
    error: float = field(default=np.nan, metadata={"help": "Standard error of the number; nan if unknown."})
    freedom: float = field(
        default=np.nan,
        metadata={"help": "Degrees of freedom of Student's t, of which the interval is; nan if unknown."},
    )

    @property
    def clear(self) -> bool:
        """`True` if the interval leaves out zero and there are several seeds."""
        return self.seeds > 1 and (self.low > 0 or self.high < 0)


def contrast(
    outcomes: np.ndarray,
    weights: Sequence[float],
    *,
    images: Sequence[int] | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """
    Return a weighted sum of the means of several conditions, with its interval.

    The weights (-1, 1) give a difference, [`slope_weights`] a slope.

    The conditions are paired by seed and by question. The luck of a seed and the difficulty of a question cancel. The
    standard error comes from a bootstrap that draws seeds and images independently of each other ([Owen
    2007](https://doi.org/10.1214/07-AOAS122); a little wide, never narrow). An image comes with all of its questions,
    since their answers depend on the same picture ([Field and Welsh
    2007](https://doi.org/10.1111/j.1467-9868.2007.00593.x)). Seeds are few, so they are drawn as in the
    bootknife ([Hesterberg 2014](https://huggingface.co/papers/1411.5279): one is left out at random first). Its
    variance is unbiased. The interval and the p-value are Student's, with the degrees of freedom of Welch and
    Satterthwaite. Percentiles of the draws would report chance: one triple of seeds in four agrees by chance.

    Args:
        outcomes (`np.ndarray` of shape `(conditions, seeds, questions)`):
            Scores. A run with a mean only has one question, and only seeds are drawn.
        weights (`Sequence[float]`): One per condition.
        images (`Sequence[int]` of length `questions`, *optional*):
            Number of each question's image. Default: every question has an image of its own.
        n_resamples (`int`, *optional*, defaults to `1000`): Number of draws.
        seed (`int`, *optional*, defaults to `0`): Makes the draws repeatable.

    Returns:
        [`Estimate`]: The sum; one seed and one image give no interval.
    """
    effects = np.tensordot(np.asarray(weights, float), np.asarray(outcomes, float), axes=1)
    value, seeds = float(effects.mean()), len(effects)
    sums, sizes = by_image(effects, images)
    if sums.size == 1:
        return Estimate(value, np.nan, np.nan, np.nan, seeds)
    weights_drawn = _draws(seeds, len(sizes), n_resamples, seed)
    draws = [of_seeds @ sums @ of_images / (sizes @ of_images) for of_seeds, of_images in weights_drawn]
    error = float(np.std(draws, ddof=1))
    if error <= 1e-12 * np.abs(effects).max():  # All seeds and all images are alike.
        return Estimate(value, value, value, 0.0 if value else 1.0, seeds)
    freedom = _degrees_of_freedom(sums, sizes)
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * error
    p_value = 2 * stats.t.sf(abs(value) / error, freedom)
    return Estimate(value, value - reach, value + reach, float(p_value), seeds, error, freedom)


def by_image(scores: np.ndarray, images: Sequence[int] | None) -> tuple[np.ndarray, np.ndarray]:
    """
    Return the sums of the scores of each image, and the number of its questions.

    Args:
        scores (`np.ndarray` of shape `(rows, questions)`): Scores.
        images (`Sequence[int]`, *optional*): See [`contrast`].

    Returns:
        `tuple[np.ndarray, np.ndarray]`: `(rows, images)` and `(images,)`.
    """
    if images is None:
        return scores, np.ones(scores.shape[1])
    codes = np.unique(images, return_inverse=True)[1]
    return np.stack([np.bincount(codes, row) for row in scores]), np.bincount(codes).astype(float)


@functools.lru_cache(maxsize=4)  # The contrasts of a report have few numbers of seeds and images.
def _draws(seeds: int, images: int, n_resamples: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the weights of the seeds and of the images in each draw."""
    rng = np.random.default_rng(seed)
    leave_out = min(1, seeds - 1)
    return [(_drawn(rng, seeds, leave_out), _drawn(rng, images)) for _ in range(n_resamples)]


def _drawn(rng: np.random.Generator, count: int, leave_out: int = 0) -> np.ndarray:
    """Return weights of sum 1 of a draw of `count` with replacement; `leave_out` random entries are never drawn."""
    urn = rng.permutation(count)[leave_out:] if leave_out else np.arange(count)
    return np.bincount(urn[rng.integers(len(urn), size=count)], minlength=count) / count


def _degrees_of_freedom(sums: np.ndarray, sizes: np.ndarray) -> float:
    """Return Welch's and Satterthwaite's degrees of freedom of a mean over seeds and images."""
    of_seeds, of_images = sums.sum(axis=1) / sizes.sum(), sums.mean(axis=0)
    # Sizes vary, so the mean is a ratio. To first order it moves by what an image is above its share.
    of_images = (of_images - sizes * of_seeds.mean()) / sizes.mean()
    repeated = [means for means in (of_seeds, of_images) if len(means) > 1]
    variances = np.array([means.var(ddof=1) / len(means) for means in repeated])
    freedom = np.array([len(means) - 1 for means in repeated])
    return float(variances.sum() ** 2 / (variances**2 / freedom).sum())


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
    x: np.ndarray,
    y: np.ndarray,
    groups: Sequence,
    *,
    images: Sequence[int] | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """
    Return Spearman's rank correlation, with a percentile bootstrap interval over groups of cells, and over images.

    A condition is drawn with all of its seeds. Cells that differ in their seed alone are near copies. Drawn one by one
    they would make the interval too narrow. If `y` has single questions, each draw takes other images, too.

    Args:
        x (`np.ndarray` of shape `(cells,)`): The first number of each cell.
        y (`np.ndarray` of shape `(cells,)` or `(cells, questions)`):
            The second number of each cell, or its scores of single questions, whose mean is that number.
        groups (`Sequence`): The condition of each cell, of the same length.
        images, n_resamples, seed: See [`contrast`].

    Returns:
        [`Estimate`] in [-1, 1], without a p-value; its `seeds` is the number of groups. It is nan for fewer than three
        cells or a constant. Its interval is nan for fewer than three groups, and if all draws give the same value.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    sums, sizes = by_image(y.reshape(len(x), -1), images)
    y = sums.sum(axis=1) / sizes.sum()
    members = np.unique([str(group) for group in groups], return_inverse=True)[1]
    size = int(members.max()) + 1
    if len(x) < 3 or not np.ptp(x) or not np.ptp(y):
        return Estimate(np.nan, np.nan, np.nan, np.nan, size)
    value = float(_weighted_spearman(x, y, np.ones((1, len(x))))[0])
    if size < 3:
        return Estimate(value, np.nan, np.nan, np.nan, size)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(size, np.full(size, 1 / size), size=n_resamples)[:, members]
    if len(sizes) > 1:
        drawn = np.stack([_drawn(rng, len(sizes)) for _ in range(n_resamples)])
        # Equal scores must share a rank, and the order of a sum moves the last digits.
        y = np.round(drawn @ sums.T / (drawn @ sizes)[:, None], 9)
    draws = _weighted_spearman(x, y, counts)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.nanpercentile(draws, [tail, 100 - tail])
    if np.isclose(low, high):
        low = high = np.nan
    return Estimate(value, float(low), float(high), np.nan, size)


def _weighted_spearman(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """
    Return Spearman's correlations, `(draws,)`, nan of a constant.

    `counts`, `(draws, cells)`, repeats each cell. `y` is `(cells,)`, or `(draws, cells)` if it differs by draw.
    """
    ranks = [_weighted_ranks(values, counts) for values in (x, y)]
    total = counts.sum(axis=1, keepdims=True)
    a, b = (rank - (rank * counts).sum(axis=1, keepdims=True) / total for rank in ranks)
    with np.errstate(invalid="ignore"):  # A draw with one value gives 0 / 0.
        return (counts * a * b).sum(1) / np.sqrt((counts * a**2).sum(1) * (counts * b**2).sum(1))


def _weighted_ranks(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the rank of each cell in each sample, `(draws, cells)`; equal values share their mean rank."""
    if values.ndim == 2:  # Half of the cells below, and half of those up to each one.
        below = (values[:, None] < values[:, :, None]).astype(np.float32) + (values[:, None] <= values[:, :, None])
        return (below @ counts[:, :, None].astype(np.float32))[..., 0].astype(float) / 2 + 0.5
    codes = np.unique(values, return_inverse=True)[1]
    tied = counts @ np.eye(codes.max() + 1)[codes]
    return (tied.cumsum(axis=1) - tied + (tied + 1) / 2)[:, codes]


def with_variance(fit: Estimate, variance: float, freedom: int) -> Estimate:
    """Return an estimate whose interval also covers an independent source of variance (Welch and Satterthwaite)."""
    if not freedom or np.isnan(fit.low):
        return fit
    own = 0.0 if np.isnan(fit.error) else fit.error**2  # All seeds may be alike.
    variances = np.array([own, variance])
    varying = variances > 0
    if not varying.any():
        return fit
    error = float(np.sqrt(variances.sum()))
    freedoms = np.array([fit.freedom, freedom])[varying]
    both = float(variances.sum() ** 2 / (variances[varying] ** 2 / freedoms).sum())
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, both) * error
    p_value = float(2 * stats.t.sf(abs(fit.value) / error, both))
    return replace(fit, low=fit.value - reach, high=fit.value + reach, p_value=p_value, error=error, freedom=both)
