"""Bootstrap intervals: the spread of a score over other draws of questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np


def bootstrap_intervals(
    summary: Callable[[np.ndarray], dict[str, float]],
    units: np.ndarray,
    *,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    seed: int = 0,
) -> dict[str, list[float]]:
    """
    Compute percentile bootstrap intervals ([Efron 1979](https://doi.org/10.1214/aos/1176344552)).

    Each resample draws as many units as there are, with replacement. A unit is an image with all of its questions,
    since answers about one image are not independent (the cluster bootstrap,
    [Davison and Hinkley 1997](https://doi.org/10.1017/CBO9780511802843), section 3.8). A metric without a value (its
    category was not drawn) skips that resample.

    Args:
        summary (`Callable`):
            Function from the weights of the samples to metrics. A weight of 2 means drawn twice.
        units (`np.ndarray` of shape `(samples,)`):
            Index of each sample's unit, from 0 without gaps.
        n_resamples (`int`, *optional*, defaults to `1000`):
            Number of draws.
        confidence_level (`float`, *optional*, defaults to `0.95`):
            Share of the draws inside each interval.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the draws.

    Returns:
        `dict[str, list[float]]`: lower and upper end for each metric.
    """
    rng = np.random.default_rng(seed)
    n_units = int(units.max()) + 1
    draws: dict[str, list[float]] = {}
    for _ in range(n_resamples):
        counts = np.bincount(rng.integers(n_units, size=n_units), minlength=n_units)
        for name, value in summary(counts[units]).items():
            draws.setdefault(name, []).append(value)
    tail = 50 * (1 - confidence_level)
    return {
        name: [float(end) for end in np.nanpercentile(values, [tail, 100 - tail])] for name, values in draws.items()
    }


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> float:
    """Return the mean of `values`, each counted `weight` times; nan if nothing is counted."""
    total = weights.sum()
    return float(values @ weights / total) if total else float("nan")


def image_units(images: Sequence[str | None]) -> np.ndarray:
    """
    Return the index of each question's unit, from 0 without gaps: questions about one image share theirs.

    Args:
        images (sequence of `str` or `None`): Name of each question's image. A question without a name is a unit.
    """
    keys = [i if name is None else name for i, name in enumerate(images)]
    positions = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    return np.array([positions[key] for key in keys])


def means_by_category(
    scores: np.ndarray, categories: list[str], name: str = "accuracy"
) -> Callable[[np.ndarray], dict[str, float]]:
    """
    Return the function from weights to `{"accuracy": mean, "CATEGORY/accuracy": mean of the category, ...}`.

    The category `""` counts only for `accuracy`. Other scores than accuracy have another `name`.
    """
    names, codes = np.unique(np.array(categories, dtype=object).astype(str), return_inverse=True)

    def summary(weights: np.ndarray) -> dict[str, float]:
        metrics = {name: weighted_mean(scores, weights)}
        sums = np.bincount(codes, weights * scores, minlength=len(names))
        totals = np.bincount(codes, weights, minlength=len(names))
        for category, points, total in zip(names, sums, totals, strict=True):
            if category:
                metrics[f"{category}/{name}"] = float(points / total) if total else float("nan")
        return metrics

    return summary
