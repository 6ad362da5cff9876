"""Correspondence: whether the token of a point finds the same point in another image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

NEAR = 0.1  # The usual threshold, as a share of the image's side.


class Keypoint(NamedTuple):
    """A named point of an image. Its place is from the left and from the top, in shares of the sides."""

    name: str
    x: float
    y: float


def c_score(tokens: Tensor, keypoints: Sequence[Sequence[Keypoint]]) -> float:
    """
    Return the share of points whose token finds the point of the same name in another image.

    It is the percentage of correct keypoints by which
    [Yang et al., 2024](https://huggingface.co/papers/2408.16357) score correspondence on
    [SPair-71k](https://huggingface.co/papers/1908.10543). The token at a point is compared by cosine with all tokens
    of the next image that names this point. The nearest is right if its middle is near the true place. Near is a
    tenth of the image's side, or the width of a token where tokens are larger.

    Args:
        tokens (`Tensor` of shape `(images, tokens, channels)`): Patches of a square grid, row by row.
        keypoints (sequence of sequences of [`Keypoint`]): Those of each image. A name occurs once in an image.

    Returns:
        `float`: A share in [0, 1]; 0 if no two images share a name.
    """
    side = math.isqrt(tokens.shape[1])
    last: dict[str, tuple[int, Keypoint]] = {}
    pairs = []
    for image, points in enumerate(keypoints):
        for point in points:
            if point.name in last:
                pairs.append((*last[point.name], image, point))
            last[point.name] = image, point
    hits = [
        finds(tokens[first, covering(asked, side)], tokens[second], true, side) for first, asked, second, true in pairs
    ]
    return sum(hits) / max(1, len(hits))


def finds(token: Tensor, others: Tensor, true: Keypoint, side: int) -> bool:
    """Return whether the nearest token, on a grid of `side` rows and columns, lies at the true place."""
    nearest = int(torch.argmax(F.normalize(others.float(), dim=-1) @ token.float()))
    row, column = divmod(nearest, side)
    away = math.hypot((column + 0.5) / side - true.x, (row + 0.5) / side - true.y)
    return away <= max(NEAR, 1 / side)


def covering(point: Keypoint, side: int) -> int:
    """Return the token that covers a point."""
    column, row = (min(side - 1, int(place * side)) for place in (point.x, point.y))
    return row * side + column
