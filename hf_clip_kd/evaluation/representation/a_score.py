"""Likeness of single tokens to those of a reference tower, after a linear map."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

JUDGED = 100  # The paper's number of images.
RIDGE = 1e-4  # Share of the mean variance of a channel.


class AScore:
    """
    A score of a tower: nearness of its tokens to those of a reference tower of the same image.

    Each token has its largest cosine with a token of the reference. The score is their mean over images and tokens
    ([Yang et al., 2024](https://huggingface.co/papers/2408.16357)). There the tokens come out of projectors that were
    trained with a language model, and CLIP ViT-L is the reference. Here a least-squares map to the reference stands
    for the projector. It is fitted on other images than those that are judged. Both sides are less their means, as
    all cosines are near 1 otherwise. So the values cannot be compared with the paper's.

    The reference itself has 1. A student that imitates the tokens of the reference is praised for that alone.

    Args:
        images (`int`): Number of images that will come. The first 100 are judged, at most half of all.

    Example:

    ```python
    >>> score = AScore(images=1000)
    >>> for images in batches:
    ...     score.update(student_tokens(images), teacher_tokens(images))
    >>> score.compute()
    0.71
    ```
    """

    def __init__(self, images: int):
        self._wanted = min(JUDGED, images // 2)
        self._judged: list[tuple[Tensor, Tensor]] = []
        self._count = 0
        self._sums: list[Tensor | float] = [0.0, 0.0, 0.0, 0.0]

    def update(self, tokens: Tensor, reference: Tensor) -> None:
        """
        Add a batch.

        Args:
            tokens (`Tensor` of shape `(batch, tokens, channels)`): Patches of a square grid, row by row.
            reference (`Tensor` of shape `(batch, reference's tokens, its channels)`): Those of the reference.
        """
        judged = max(0, min(len(tokens), self._wanted - sum(len(mine) for mine, _ in self._judged)))
        if judged:
            self._judged.append((tokens[:judged], reference[:judged]))
        tokens, reference = tokens[judged:], reference[judged:]
        if len(tokens):
            x = tokens.double().flatten(0, 1)
            y = regrid(reference.double(), tokens.shape[1]).flatten(0, 1)
            self._count += len(x)
            new = (x.sum(dim=0), y.sum(dim=0), x.T @ x, x.T @ y)
            self._sums = [total + part for total, part in zip(self._sums, new, strict=True)]

    def compute(self) -> float:
        """Return the score in [-1, 1], at least 2 images after the first call of [`update`]."""
        x, y, xx, xy = (total / self._count for total in self._sums)
        covariance, cross = xx - torch.outer(x, x), xy - torch.outer(x, y)
        ridge = RIDGE * covariance.diagonal().mean().clamp_min(torch.finfo(torch.double).tiny)
        weights = torch.linalg.solve(covariance + ridge * torch.eye(len(covariance), device=x.device), cross)
        found = [
            nearest_cosines((tokens.double() - x) @ weights, reference.double() - y)
            for tokens, reference in self._judged
        ]
        return float(torch.cat(found).mean())


def nearest_cosines(tokens: Tensor, reference: Tensor) -> Tensor:
    """Return the largest cosine of each token with a token of the reference of its image, `(images, tokens)`."""
    return (F.normalize(tokens, dim=-1) @ F.normalize(reference, dim=-1).mT).amax(dim=-1)


def comparable(tokens: Tensor, reference: Tensor) -> bool:
    """Return whether both have grids that can be laid on each other: of equal size, or squares."""
    counts = tokens.shape[1], reference.shape[1]
    return counts[0] == counts[1] or all(math.isqrt(count) ** 2 == count for count in counts)


def regrid(tokens: Tensor, wanted: int) -> Tensor:
    """Return tokens `(images, tokens, channels)` of a square grid on a square grid of `wanted` tokens."""
    if tokens.shape[1] == wanted:
        return tokens
    side, new = math.isqrt(tokens.shape[1]), math.isqrt(wanted)
    grid = tokens.mT.unflatten(-1, (side, side))
    return F.interpolate(grid, size=(new, new), mode="bilinear", antialias=True).flatten(2).mT
