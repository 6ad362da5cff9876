"""Likeness of single patches of an image to its text, and a check of the nearest patch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def align_patches(patches: Tensor, texts: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """
    Return the text nearest to any patch of each image, and the patch nearest to its own text.

    The likeness of an image to a text is that of its nearest patch
    ([FILIP](https://huggingface.co/papers/2111.07783), with one text token). It is relative to the other texts,
    `cos(patch, text) - mean over texts of cos(patch, text)`: images and texts lie in a cone each
    ([Liang et al.](https://huggingface.co/papers/2203.02053)). The depth of a patch in its cone says nothing of its
    content. [`~hf_clip_kd.models.encode_patches`] tells which patches a model has that was not trained on them.
    [TIPSv2](https://huggingface.co/papers/2604.12012) claims that vision-language models gain by such patches.

    Args:
        patches (`Tensor` of shape `(images, patches, dim)`): Patches of a square grid, row by row, in the joint space.
        texts (`Tensor` of shape `(texts, dim)`): Texts of unit norm.
        own (`Tensor` of shape `(images,)`): Position of each image's own text among them.

    Returns:
        `tuple` of `Tensor`s of shape `(images,)`: position of the nearest text, and of the patch nearest
        to the own text.
    """
    texts = texts - texts.mean(dim=0)
    near_texts, near_patches = [], []
    for image, text in zip(
        patches, own.tolist(), strict=True
    ):  # There may be thousands of texts, so images come singly.
        similarity = F.normalize(image.float(), dim=-1) @ texts.T
        near_texts.append(similarity.amax(dim=0).argmax())
        near_patches.append(similarity[:, text].argmax())
    return torch.stack(near_texts), torch.stack(near_patches)


def points_at(patch: int, patches: int, mask: Sequence[Sequence[int]]) -> bool:
    """
    Return whether the middle of a patch lies on an object (the pointing game of
    [Zhang et al.](https://huggingface.co/papers/1608.00507)).

    Args:
        patch (`int`): Its position on the square grid of `patches`, row by row.
        patches (`int`): Number of patches, a square number.
        mask (sequence of sequences of `int`): Rows of a picture of any size, 1 on the object and 0 elsewhere.

    Example:

    ```python
    >>> points_at(3, 4, [[0, 0], [0, 1]])  # the lower right of four patches
    True
    ```
    """
    side = math.isqrt(patches)
    row, column = (int((place + 0.5) / side * len(mask)) for place in divmod(patch, side))
    return bool(mask[row][column])
