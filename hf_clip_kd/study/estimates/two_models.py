"""Two models that were asked the same questions: their difference, how sure it is, and what would have been seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from ..cells.samples import Answered, Key
from .power import LEVEL, detectable
from .statistics import Estimate, by_image, contrast

FLIPS = 9999


@dataclass(frozen=True)
class Pair:
    """One number of two models over the questions that both were asked."""

    what: str = field(metadata={"help": "`accuracy` in per cent, or `answer bits`, of which less is better."})
    first: float = field(metadata={"help": "Mean of the first model."})
    second: float = field(metadata={"help": "Mean of the second model."})
    difference: Estimate = field(metadata={"help": "Second less first, with the interval of other images."})
    flipped: float = field(
        metadata={"help": "p-value of a test that flips the sign of each image's difference at random, two-sided."}
    )

    @property
    def detectable(self) -> float:
        """Smallest difference that so many images show in 8 of 10 draws of them."""
        return detectable(self.difference.error, self.difference.freedom)

    @property
    def clear(self) -> bool:
        """`True` if the interval leaves out zero."""
        return self.difference.p_value < LEVEL


def compare_models(
    first: dict[Key, Answered],
    second: dict[Key, Answered],
    blind: dict[Key, Answered],
) -> tuple[list[Pair], dict[str, int]]:
    """
    Compare two models over the questions that both were asked, paired by question and clustered by image.

    Args:
        first, second (`dict`): One benchmark of [`read_samples`].
        blind (`dict`): The same of a model without pictures; may be empty. What it answers right is left out.

    Returns:
        `tuple[list[Pair], dict[str, int]]`: Accuracy, and bits if both have them. And numbers: `questions`, `images`
        (0 if they are not known), `unshared` (of one model alone), `left_out`, `first_alone` and `second_alone`
        (answered better by that model).

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
    names = [first[key].image or second[key].image for key in kept]
    images = np.unique(names, return_inverse=True)[1] if all(names) else None
    scores = 100 * np.array([[model[key].score for key in kept] for model in (first, second)])
    pairs = [_pair("accuracy", scores, images)]
    bits = [[model[key].bits for key in kept] for model in (first, second)]
    measured = np.array([None not in both for both in zip(*bits, strict=True)])
    if measured.any():
        values = np.array(bits)[:, measured].astype(float)
        pairs.append(_pair("answer bits", values, None if images is None else images[measured]))
    numbers = {
        "questions": len(kept),
        "images": 0 if images is None else int(images.max()) + 1,
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
    1947](https://doi.org/10.1007/BF02295996)). Beyond 13 images that differ, 9,999 random flips stand for all.

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
