"""Power of a comparison: the smallest difference that it shows, and the seeds and images that show a given one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import optimize, stats

from .statistics import by_image

LEVEL, POWER = 0.05, 0.8
MOST_SEEDS, MOST_IMAGES = 200, 1_000_000


def detectable(error: float, freedom: float, *, level: float = LEVEL, critical: float | None = None) -> float:
    """
    Return the smallest true difference that Student's t-test shows with a power of 0.8.

    The test is two-sided, and its statistic follows the noncentral t distribution ([Cohen
    1988](https://doi.org/10.4324/9780203771587)). Only a difference with the right sign counts as shown.

    Args:
        error (`float`): Standard deviation of the estimated difference, in its unit.
        freedom (`float`): Degrees of freedom of the test.
        level (`float`, *optional*, defaults to 0.05): Chance of a finding where there is no difference.
        critical (`float`, *optional*): Difference over `error` from which on the test calls it clear. Default is that
            of Student's t at `level`.

    Returns:
        `float`: The difference, at least 0; nan if the error is not known.
    """
    if not (math.isfinite(error) and math.isfinite(freedom)):
        return math.nan
    critical = stats.t.ppf(1 - level / 2, freedom) if critical is None else critical
    end = max(1.0, critical)
    while stats.nct.sf(critical, freedom, end) < POWER:
        end *= 2
    return error * optimize.brentq(lambda shift: stats.nct.sf(critical, freedom, shift) - POWER, 0, end)


@dataclass(frozen=True)
class Design:
    """Size of a study."""

    seeds: int = field(metadata={"help": "Seeds of the students."})
    vlm_seeds: int = field(metadata={"help": "Seeds of the vision-language model for each student."})
    images: int = field(metadata={"help": "Images with questions; 1 for a metric without single questions."})


@dataclass(frozen=True)
class Variances:
    """
    Parts of the variance of a paired difference, in the squared unit of the metric.

    A single difference has a seed, a VLM seed and an image. It is the true difference and four independent deviations.
    The VLM seeds are nested in the seeds. The images are crossed with both.
    """

    seed: float = field(metadata={"help": "Part of the student's seed. nan if the pilot has a single seed."})
    vlm_seed: float = field(
        metadata={"help": "Part of the VLM's seed; nan if the pilot has one. It is in `seed` then."}
    )
    image: float = field(metadata={"help": "Part of the image that all runs share."})
    rest: float = field(metadata={"help": "Part of the image in a single run."})

    def parts(self, design: Design) -> tuple[float, float, float]:
        """Return the variances of the mean over a design: of the seeds, of the images, and of what is left."""
        runs = design.seeds * design.vlm_seeds
        of_seeds = self.seed / design.seeds + np.nan_to_num(self.vlm_seed) / runs
        return of_seeds, self.image / design.images, self.rest / (runs * design.images)

    def test(self, design: Design) -> tuple[float, float, float]:
        """
        Return what the test of [`contrast`] has with a design.

        Returns:
            `tuple[float, float, float]`: Standard deviation of the difference, degrees of freedom, and the difference
            over that deviation from which on it is clear. The bootstrap counts the last part three times ([Owen
            2007](https://doi.org/10.1214/07-AOAS122)), so this is more than Student's t.
        """
        of_seeds, of_images, of_both = self.parts(design)
        error = math.sqrt(of_seeds + of_images + of_both)
        repeated = [
            (variance + of_both, number - 1)
            for variance, number in ((of_seeds, design.seeds), (of_images, design.images))
            if number > 1
        ]
        total = sum(variance for variance, _ in repeated)
        if not total:
            return 0.0, 1.0, 0.0
        freedom = total**2 / sum(variance**2 / free for variance, free in repeated)
        drawn = total + (of_both if len(repeated) == 2 else 0)
        return error, freedom, math.sqrt(drawn) / error * stats.t.ppf(1 - LEVEL / 2, freedom)

    def detectable(self, design: Design) -> float:
        """Return the smallest difference that a study of this design shows with a power of 0.8."""
        error, freedom, critical = self.test(design)
        return detectable(error, freedom, critical=critical)

    def power(self, difference: float, design: Design) -> float:
        """Return the chance, in [0, 1], that a study of this design shows a true difference."""
        error, freedom, critical = self.test(design)
        return float(stats.nct.sf(critical, freedom, difference / error)) if error else 1.0

    def seeds_for(self, difference: float, design: Design) -> int | None:
        """Return the fewest seeds that show a difference, with all else of a design; `None` if 200 are too few."""
        return _fewest(lambda seeds: self.power(difference, replace(design, seeds=seeds)), 2, MOST_SEEDS)

    def images_for(self, difference: float, design: Design) -> int | None:
        """Return the fewest images that show a difference, with all else of a design; `None` if no number does."""
        return _fewest(lambda images: self.power(difference, replace(design, images=images)), 2, MOST_IMAGES)


def variances(effects: np.ndarray, images: Sequence[int] | None = None) -> Variances:
    """
    Estimate the parts of the variance of a paired difference, by an analysis of variance.

    The estimates are unbiased, so a part may come out below zero ([Searle et al.
    1992](https://doi.org/10.1002/9780470316856), chapter 4).

    Args:
        effects (`np.ndarray` of shape `(seeds, vlm_seeds, questions)`): Differences of single runs and questions.
        images (`Sequence[int]` of length `questions`, *optional*): See [`contrast`].
    """
    seeds, vlm_seeds, _ = effects.shape
    sums, sizes = by_image(effects.reshape(seeds * vlm_seeds, -1), images)
    means = sums.sum(axis=1, keepdims=True) / sizes.sum()
    scores = means + (sums - sizes * means) / sizes.mean()  # Treat all images as equally large.
    runs, number = scores.shape
    by_run = means.reshape(seeds, vlm_seeds)
    grand = by_run.mean()
    of_seeds = _mean_square(vlm_seeds * number * (by_run.mean(axis=1) - grand) ** 2, seeds - 1)
    of_vlm = _mean_square(number * (by_run - by_run.mean(axis=1, keepdims=True)) ** 2, seeds * (vlm_seeds - 1))
    of_images = _mean_square(runs * (scores.mean(axis=0) - grand) ** 2, number - 1)
    rest = _mean_square((scores - means - scores.mean(axis=0) + grand) ** 2, (runs - 1) * (number - 1))
    noise = np.nan_to_num(rest)  # One run, or one image, cannot tell the rest from the other parts.
    below = of_vlm if vlm_seeds > 1 else noise
    return Variances(
        seed=(of_seeds - below) / (vlm_seeds * number),
        vlm_seed=(of_vlm - noise) / number,
        image=float(np.nan_to_num((of_images - noise) / runs)),
        rest=float(noise),
    )


def pooled(found: Sequence[Variances]) -> Variances:
    """Return the means of several estimates; a part below zero is zero then."""
    parts = np.array([[each.seed, each.vlm_seed, each.image, each.rest] for each in found])
    return Variances(*(float(part) for part in np.maximum(parts.mean(axis=0), 0)))


def _mean_square(squares: np.ndarray, freedom: int) -> float:
    return float(squares.sum() / freedom) if freedom else math.nan


def _fewest(power, low: int, most: int) -> int | None:
    """Return the smallest number from `low` on with enough power, which rises with it."""
    if power(most) < POWER:
        return None
    high = low
    while power(high) < POWER:
        low, high = high + 1, min(2 * high, most)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle) >= POWER else (middle + 1, high)
    return low
