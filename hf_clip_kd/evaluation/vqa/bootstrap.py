"""How far a score would move on another draw of questions."""

from __future__ import annotations

from collections.abc import Callable

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
    Percentile bootstrap intervals ([Efron 1979](https://doi.org/10.1214/aos/1176344552)).

    Each resample draws as many units as there are, with replacement. A unit is what was sampled when the benchmark
    was made: a question, or an image with all of its questions. Resamples in which a metric has no value (a category
    was not drawn) do not count for that metric.

    Args:
        summary (`Callable`):
            Metrics from the weights of the samples; weight 2 means drawn twice.
        units (`np.ndarray` of shape `(samples,)`):
            Which unit each sample belongs to, counted from 0 without gaps.
        n_resamples (`int`, *optional*, defaults to `1000`):
            Number of draws.
        confidence_level (`float`, *optional*, defaults to `0.95`):
            Share of the draws inside each interval.
        seed (`int`, *optional*, defaults to `0`):
            Makes the draws repeatable.

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
    """Mean of `values`, each counted `weight` times; nan where nothing is counted."""
    total = weights.sum()
    return float(values @ weights / total) if total else float("nan")


def means_by_category(scores: np.ndarray, categories: list[str]) -> Callable[[np.ndarray], dict[str, float]]:
    """Weights to `{"accuracy": mean, "CATEGORY/accuracy": mean of the category, ...}`; no name, no category."""
    names, codes = np.unique(np.array(categories, dtype=object).astype(str), return_inverse=True)

    def summary(weights: np.ndarray) -> dict[str, float]:
        metrics = {"accuracy": weighted_mean(scores, weights)}
        sums = np.bincount(codes, weights * scores, minlength=len(names))
        totals = np.bincount(codes, weights, minlength=len(names))
        for name, one_sum, total in zip(names, sums, totals, strict=True):
            if name:
                metrics[f"{name}/accuracy"] = float(one_sum / total) if total else float("nan")
        return metrics

    return summary
