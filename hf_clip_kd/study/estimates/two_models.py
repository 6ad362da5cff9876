"""Two models that were asked the same questions: their difference, how sure it is, and what would have been seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from scipy import stats

from ..cells.samples import Answered, Key
from .power import LEVEL, detectable
from .statistics import CONFIDENCE, Estimate, by_image, contrast

FLIPS, DRAWS = 9999, 1000
BITS = "answer bits"


class Summary(Protocol):
    """Number that papers quote, as a function of how often each question counts."""

    name: str
    of: Callable[[np.ndarray], float]


# Function from a result and its answers to the number that papers quote, if there is one.
Summarize = Callable[[dict[str, Any], Sequence[Answered]], Summary | None]


@dataclass(frozen=True)
class Pair:
    """One number of two models over the questions that both were asked."""

    what: str = field(
        metadata={
            "help": "`accuracy` is the mean score of the questions in per cent. Less of `answer bits` is better. Any "
            "other name is that of the number that papers quote, in per cent or points."
        }
    )
    first: float = field(metadata={"help": "Number of the first model."})
    second: float = field(metadata={"help": "Number of the second model."})
    difference: Estimate = field(metadata={"help": "Second less first, with the interval of other images."})
    flipped: float = field(
        metadata={
            "help": "p-value of a test that flips the sign of each image's difference at random, two-sided. It is nan "
            "for a number that is no mean of scores."
        }
    )

    @property
    def detectable(self) -> float:
        """Smallest difference that so many images show in 8 of 10 draws of them."""
        return detectable(self.difference.error, self.difference.freedom)

    @property
    def clear(self) -> bool:
        """`True` if the interval leaves out zero."""
        return self.difference.p_value < LEVEL

    @property
    def p_value(self) -> float:
        """p-value of the flips, or of the interval where nothing can be flipped."""
        return self.difference.p_value if np.isnan(self.flipped) else self.flipped

    @property
    def digits(self) -> int:
        """Digits to show: bits are small."""
        return 3 if self.what == BITS else 2


def compare_models(
    first: dict[Key, Answered],
    second: dict[Key, Answered],
    blind: dict[Key, Answered],
    *,
    records: tuple[dict[str, Any], dict[str, Any]] = ({}, {}),
    summarize: Summarize | None = None,
) -> tuple[list[Pair], dict[str, Any]]:
    """
    Compare two models over the questions that both were asked, paired by question and clustered by image.

    A benchmark of pairs or groups is clustered by these.

    Args:
        first, second (`dict`): One benchmark of [`read_samples`].
        blind (`dict`): The same of a model without pictures; may be empty. What it answers right is left out.
        records (`tuple[dict, dict]`, *optional*): Results that the answers belong to.
        summarize (`Callable`, *optional*):
            Function from a record and its answers to the number that papers quote. That is compared, too, if it is
            no mean of the questions' scores. Both models must have been asked the same, with none left out.

    Returns:
        `tuple[list[Pair], dict]`: Accuracy, the number that papers quote, and bits if both have them. And numbers:
        `questions`, `units` (0 if they are not known) and their name `unit`, `unshared` (of one model alone),
        `left_out`, `first_alone` and `second_alone` (answered better by that model).

    Raises:
        ValueError: No question is left.
    """
    shared = [key for key in first if key in second]
    kept = [key for key in shared if not (key in blind and blind[key].score > 0.5)]
    if not kept:
        raise ValueError(
            f"No question is left to compare: of {len(first)} and {len(second)} questions the two models share "
            f"{len(shared)}, and {len(shared) - len(kept)} of them are answered right without a picture. One question "
            "at least must be left. Pass two runs of one benchmark, or leave out `--leave_out_blind`."
        )
    names = [first[key].unit or second[key].unit for key in kept]
    unit = names[0].split()[0] if all(names) else "image"
    if unit == "image":
        names = [first[key].image or second[key].image for key in kept]
    units = np.unique(names, return_inverse=True)[1] if all(names) else None
    scores = 100 * np.array([[model[key].score for key in kept] for model in (first, second)])
    pairs = [_pair("accuracy", scores, units)]
    if summarize is not None and len(kept) == len(first) == len(second):
        answers = [[model[key] for key in kept] for model in (first, second)]
        summaries = [summarize(record, own) for record, own in zip(records, answers, strict=True)]
        pairs += _quoted(summaries, scores, np.arange(len(kept)) if units is None else units)
    bits = [[model[key].bits for key in kept] for model in (first, second)]
    measured = np.array([None not in both for both in zip(*bits, strict=True)])
    if measured.any():
        values = np.array(bits)[:, measured].astype(float)
        pairs.append(_pair(BITS, values, None if units is None else units[measured]))
    numbers = {
        "questions": len(kept),
        "units": 0 if units is None else int(units.max()) + 1,
        "unit": unit,
        "unshared": len(first) + len(second) - 2 * len(shared),
        "left_out": len(shared) - len(kept),
        "first_alone": int((scores[0] > scores[1]).sum()),
        "second_alone": int((scores[1] > scores[0]).sum()),
    }
    return pairs, numbers


def flip_test(scores: np.ndarray, images: Sequence[int] | None) -> float:
    """
    Return the p-value of the difference of two models, by flips of the sign of each image's difference.

    Scores of 0 and 1 with one question for each image make it McNemar's exact test ([McNemar
    1947](https://doi.org/10.1007/BF02295996)). Beyond 11 images that differ, 9,999 random flips stand for all.

    Args:
        scores (`np.ndarray` of shape `(2, questions)`): Scores of both models.
        images (`Sequence[int]`, *optional*): See [`contrast`].
    """
    (sums,), _ = by_image(np.diff(scores, axis=0), images)
    found = stats.permutation_test(
        (np.append(sums[sums != 0], [0, 0]),),  # A flip of zero changes nothing, and scipy needs two numbers.
        lambda drawn, axis: drawn.sum(axis=axis),
        permutation_type="samples",
        n_resamples=FLIPS,
        batch=100,
        rng=0,
    )
    return float(found.pvalue)


def _pair(what: str, scores: np.ndarray, images: np.ndarray | None) -> Pair:
    first, second = scores.mean(axis=1)
    difference = contrast(scores[:, None], [-1, 1], images=images)
    return Pair(what, float(first), float(second), difference, flip_test(scores, images))


def _quoted(summaries: Sequence[Summary | None], scores: np.ndarray, units: np.ndarray) -> list[Pair]:
    """Return the comparison of the number that papers quote, unless that is the mean score."""
    if None in summaries or len({summary.name for summary in summaries}) > 1:
        return []
    rng, count = np.random.default_rng(0), int(units.max()) + 1
    weights = [np.bincount(rng.integers(count, size=count), minlength=count)[units] for _ in range(DRAWS)]
    if np.allclose([own.of(weights[0]) for own in summaries], np.average(scores, axis=1, weights=weights[0])):
        return []
    first, second = (own.of(np.ones(len(units))) for own in summaries)
    error = float(np.nanstd([summaries[1].of(drawn) - summaries[0].of(drawn) for drawn in weights], ddof=1))
    value, freedom = second - first, count - 1
    if not error > 0:  # All draws are alike.
        p_value = 1.0 if value == 0 else 0.0
        difference = Estimate(value, value, value, p_value, 1)
    else:
        reach = stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * error
        p_value = float(2 * stats.t.sf(abs(value) / error, freedom))
        difference = Estimate(value, value - reach, value + reach, p_value, 1, error, freedom)
    return [Pair(summaries[0].name, first, second, difference, np.nan)]
