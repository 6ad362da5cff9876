"""Texts beside the features of a batch: a student's captions, and what a frozen reader says of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint


@dataclass(frozen=True, eq=False)
class Captions:
    """
    Captions of this process's images, as ids of the student's tokenizer.

    Args:
        ids (`Tensor` of shape `(images, length)`): Ids, begin and end of the text included, padded on the right.
        mask (`Tensor` of shape `(images, length)`): True on tokens, False on padding.
    """

    ids: Tensor
    mask: Tensor

    @classmethod
    def of(cls, ids: Tensor, mask: Tensor | None = None) -> Captions:
        """Make captions of what a text tower reads. Without a mask, the repeats of a row's last id are padding."""
        if mask is not None:
            return cls(ids, mask.bool())
        places = torch.arange(ids.shape[1], device=ids.device)
        last = torch.where(ids != ids[:, -1:], places, -1).amax(dim=1, keepdim=True)
        return cls(ids, places <= last + 1)  # the first repeat is the end of the text, or the only padding

    @classmethod
    def concatenate(cls, parts: Sequence[Captions]) -> Captions:
        """Join the captions of several micro-batches, padded to the longest."""
        length = max(part.ids.shape[1] for part in parts)
        ids, masks = (
            torch.cat([F.pad(getattr(part, name), (0, length - part.ids.shape[1])) for part in parts])
            for name in ("ids", "mask")
        )
        return cls(ids, masks)


@dataclass(frozen=True, eq=False)
class Answers:
    """
    Answers of a frozen reader about the teacher's tokens of this process's images, and a way to ask for others.

    The reader reads an image and a text. A *position* is a token of a text that it must predict. Images have any
    number of positions.

    Args:
        logits (`Tensor` of shape `(positions, vocabulary)`):
            Its answers for the teacher's tokens, without gradient. With `ids` of shape `(positions, k)`.
        labels (`Tensor` of shape `(positions,)`):
            The true token of each position.
        owners (`Tensor` of shape `(positions,)`):
            Number of the image of each position, in ascending order.
        images (`int`):
            Number of images.
        read (`Callable`):
            Function of tokens `(images, N, channels)` in the place of the teacher's. Its answers are of shape
            `(positions, vocabulary)`, with gradient to the tokens.
        ids (`Tensor` of shape `(positions, k)`, *optional*):
            Tokens of the vocabulary that `logits` belong to, if these are only the largest.
    """

    logits: Tensor
    labels: Tensor
    owners: Tensor
    images: int
    read: Callable[[Tensor], Tensor]
    ids: Tensor | None = None

    @classmethod
    def concatenate(cls, parts: Sequence[Answers]) -> Answers:
        """Join the answers of several micro-batches. The activations of each are computed again, not kept."""
        sizes = [part.images for part in parts]
        starts = [sum(sizes[:index]) for index in range(len(parts))]

        def read(tokens: Tensor) -> Tensor:
            asked = zip(parts, tokens.split(sizes), strict=True)
            return torch.cat([checkpoint(part.read, own, use_reentrant=False) for part, own in asked])

        return cls(
            torch.cat([part.logits for part in parts]),
            torch.cat([part.labels for part in parts]),
            torch.cat([part.owners + start for part, start in zip(parts, starts, strict=True)]),
            sum(sizes),
            read,
            None if parts[0].ids is None else torch.cat([part.ids for part in parts]),
        )


def mean_by_owner(values: Tensor, owners: Tensor, images: int) -> Tensor:
    """
    Compute the mean of each image's values.

    Args:
        values (`Tensor` of shape `(positions,)`): A number for each position.
        owners (`Tensor` of shape `(positions,)`): Image of each.
        images (`int`): Number of images.

    Returns:
        `Tensor` of shape `(images,)`, 0 for an image without a position.
    """
    sums = values.new_zeros(images).index_add(0, owners, values)
    # `bincount` would let the host wait for the device.
    counts = values.new_zeros(images).index_add(0, owners, torch.ones_like(values))
    return sums / counts.clamp_min(1)


__all__ = ["Answers", "Captions", "mean_by_owner"]
