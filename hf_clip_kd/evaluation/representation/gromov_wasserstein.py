"""Distance between the geometry of images and that of their texts."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

ITERATIONS = 1000
NO_ANGLE = 1e-6  # Radians. Rounding makes angles up to 2e-8 of equal features.


def gromov_wasserstein(images: Tensor, texts: Tensor) -> float:
    """
    Return how far the distances between images are from those between texts, under the best matching of the two.

    It is the Gromov-Wasserstein distance of [Li et al., 2026](https://huggingface.co/papers/2605.01325) with the cost
    `|x - y|`. Distances are angles between features. Those of the images are multiplied by the ratio of the two
    medians. The two kinds of features need not share a space or a width.

    POT's conditional gradient finds the matching with the cost `(x - y)^2`, since that of `|x - y|` takes `n^4`
    operations. It is a one-to-one matching: angles are of negative type, so that the problem is concave
    ([Maron & Lipman, 2018](https://huggingface.co/papers/1807.09722)). The search starts from no matching and from
    the given pairs, and the better end counts. It may miss the best matching, so the value is an upper bound.

    Args:
        images (`Tensor` of shape `(n, Dx)`): Features of at least 3 images.
        texts (`Tensor` of shape `(n, Dy)`): Features of their texts, in the same order.

    Returns:
        `float`: Mean difference of two distances in radians, 0 for equal shapes of any size.

    Raises:
        ValueError: POT is not installed, or there are fewer than 3 pairs.
    """
    solve = solver()
    if len(images) != len(texts) or len(images) < 3:
        raise ValueError(
            f"{len(images)} images and {len(texts)} texts have no shapes to compare. Each image needs a text, and 3 "
            "pairs are the fewest. Pass more images with captions."
        )
    x, y = angular_distances(images), angular_distances(texts)
    others = ~np.eye(len(x), dtype=bool)
    medians = np.median(x[others]), np.median(y[others])
    if medians[0] > NO_ANGLE:
        x = x * (medians[1] / medians[0])
    pairs = np.eye(len(x)) / len(x)
    matchings = []
    for start in (None, pairs):
        coupling = solve(x, y, G0=start, symmetric=True, max_iter=ITERATIONS)
        _, matching = linear_sum_assignment(coupling, maximize=True)
        matchings.append(y[np.ix_(matching, matching)])
    best = min(matchings, key=lambda matched: np.square(x - matched).mean())
    return float(np.abs(x - best).mean())


def angular_distances(features: Tensor) -> np.ndarray:
    """Return the angles between features `(n, dim)` in radians, float64 `(n, n)`, with 0 in the diagonal."""
    unit = F.normalize(features.double().cpu(), dim=-1)
    return torch.arccos((unit @ unit.T).clamp(-1, 1)).fill_diagonal_(0).numpy()


def solver():
    """Return POT's solver, or raise the `ValueError` of a missing POT."""
    try:
        from ot.gromov import gromov_wasserstein as solve
    except ImportError as error:
        raise ValueError(
            "`gromov_wasserstein` needs the package POT (`import ot`), which is not installed. It is the optional "
            "dependency `worth`. Install it with `pip install 'hf_clip_kd[worth]'`, or leave the metric out."
        ) from error
    return solve
