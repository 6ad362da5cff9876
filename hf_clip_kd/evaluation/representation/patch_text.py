"""Whether single patches of an image lie near the text that is said of it, and whether they are the right ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def align_patches(patches: Tensor, texts: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """
    What lies near what in the joint space, one patch at a time.

    An image is as near to a text as the nearest of its patches
    ([FILIP](https://huggingface.co/papers/2111.07783), with one text token). Near means near in comparison with the
    other texts, `cos(patch, text) - mean over texts of cos(patch, text)`: images and texts lie in a cone each
    ([Liang et al.](https://huggingface.co/papers/2203.02053)), and how deep in its cone a patch lies says nothing of what it
    shows. What the patches of a model are that was not trained on them, see [`~hf_clip_kd.models.encode_patches`]. That
    vision-language models gain by patches near their texts is the claim of [TIPSv2](https://huggingface.co/papers/2604.12012).

    Args:
        patches (`Tensor` of shape `(images, patches, dim)`): On a square grid, row by row, in the joint space.
        texts (`Tensor` of shape `(texts, dim)`): Texts of unit norm.
        own (`Tensor` of shape `(images,)`): Position of each image's own text among them.

    Returns:
        `tuple` of `Tensor`s of shape `(images,)`: the position of the nearest text, and that of the patch nearest to the own one.
    """
    texts = texts - texts.mean(dim=0)
    near_texts, near_patches = [], []
    for image, text in zip(patches, own.tolist(), strict=True):  # one at a time: there may be thousands of texts
        similarity = F.normalize(image.float(), dim=-1) @ texts.T
        near_texts.append(similarity.amax(dim=0).argmax())
        near_patches.append(similarity[:, text].argmax())
    return torch.stack(near_texts), torch.stack(near_patches)


def points_at(patch: int, patches: int, mask: Sequence[Sequence[int]]) -> bool:
    """
    Whether the middle of a patch lies on an object, the pointing game of
    [Zhang et al.](https://huggingface.co/papers/1608.00507).

    Args:
        patch (`int`): Its position on the square grid of `patches`, row by row.
        patches (`int`): A square number.
        mask (sequence of sequences of `int`): Rows of a picture of any size, 1 where the object is and 0 elsewhere.

    Example:

    ```python
    >>> points_at(3, 4, [[0, 0], [0, 1]])  # the lower right of four patches
    True
    ```
    """
    side = math.isqrt(patches)
    row, column = (int((place + 0.5) / side * len(mask)) for place in divmod(patch, side))
    return bool(mask[row][column])
