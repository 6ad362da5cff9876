"""Scores of compositional tests: what counts as right, and means over cases and over categories."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


def right_answers(similarities: Tensor) -> tuple[bool, bool]:
    """
    Judge one case: text and image, in the words of Winoground.

    The text is right if each picture is nearer to its own caption than to all others. The image is right if each
    caption of a picture is nearer to its own than to all other pictures. A tie is wrong. These are `f` and `g` of
    [Winoground](https://huggingface.co/papers/2204.03162), equations 1 and 2.

    Args:
        similarities (`Tensor` of shape `(pictures, captions)`): Caption i is that of picture i.
    """
    own = similarities.diagonal()
    others = similarities.clone()
    others.fill_diagonal_(-torch.inf)
    text = own > others.amax(dim=1)
    image = own > others[:, : len(own)].amax(dim=0)
    return bool(text.all()), bool(image.all())


def means(
    hits: dict[str, np.ndarray], categories: list[str], macro: set[str] | None, reported: bool
) -> Callable[[np.ndarray], dict[str, float]]:
    """
    Return the function from weights of the cases to metrics.

    Args:
        hits (`dict[str, np.ndarray]`): Metric to the score of each case.
        categories (`list[str]`): Category of each case. The category `""` has no mean of its own.
        macro (`set[str]`, *optional*):
            Categories whose mean `text_acc` is `macro_acc`. `None` gives no such metric.
        reported (`bool`): Give `METRIC/CATEGORY`, too.
    """
    names, codes = np.unique(np.array(categories, dtype=object).astype(str), return_inverse=True)

    def by_category(values: np.ndarray, weights: np.ndarray) -> dict[str, float]:
        sums = np.bincount(codes, weights * values, minlength=len(names))
        totals = np.bincount(codes, weights, minlength=len(names))
        # A category that a bootstrap did not draw has no mean.
        shares = np.divide(sums, totals, out=np.full(len(names), np.nan), where=totals > 0)
        return {str(name): float(share) for name, share in zip(names, shares, strict=True) if name}

    def summary(weights: np.ndarray) -> dict[str, float]:
        found = {metric: float(values @ weights / weights.sum()) for metric, values in hits.items()}
        if macro is not None:
            shares = [share for name, share in by_category(hits["text_acc"], weights).items() if name in macro]
            found["macro_acc"] = float(np.nanmean(shares))
        if reported:
            for metric, values in hits.items():
                shares = by_category(values, weights)
                found |= {f"{metric}/{name}": share for name, share in shares.items()}
        return found

    return summary
