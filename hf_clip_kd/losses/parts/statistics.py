"""Statistics of a teacher's channels: of each batch, or measured over the first batches and then fixed."""

import torch
from torch import Tensor, nn

from .precise_buffers import PreciseBuffers

BATCH, NONE = "batch", "none"
# Smallest variance of a channel, as a share of its mean square. Smaller fp32 variances are mostly rounding.
VARIANCE_FLOOR = 1e-6


class FixedStatistics(PreciseBuffers):
    """
    Standardise a teacher's features by the mean and variance of their channels in the first batches of the training.

    The moments are those of all processes, so every process gets the same. They are buffers: a checkpoint has them,
    and a resumed run goes on with them. The first batches are standardised by what has been seen so far, their own
    included. [EUPE](https://huggingface.co/papers/2603.22387) measures 500 iterations before the training.

    A batch counts if the module trains and gradients are computed. An evaluation counts nothing, and neither does the
    second pass of GradCache, which computes no loss. A batch with a number that is not finite does not count.

    Args:
        width (`int`): Number of channels.
        batches (`int`): Number of batches to measure.
    """

    def __init__(self, width: int, batches: int):
        super().__init__()
        self.batches = batches
        self.register_buffer("moments", torch.zeros(2, width))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, features: Tensor, moments: Tensor | None = None) -> Tensor:
        """
        Standardise features.

        Args:
            features (`Tensor` of shape `(..., width)`), moments: Arguments of [`standardised`].
        """
        newest = moments_of(features, moments).mean(dim=0)
        if self.training and torch.is_grad_enabled():
            self._count(newest.detach())
        known = torch.where(self.seen > 0, self.moments.to(newest), newest)
        return (features - known[0]) / deviation(*known)

    def _count(self, newest: Tensor) -> None:
        counts = (self.seen < self.batches) & newest.isfinite().all()
        mean = torch.lerp(self.moments, newest.to(self.moments), 1 / (self.seen + 1))
        self.moments.copy_(torch.where(counts, mean, self.moments))
        self.seen += counts

    def extra_repr(self) -> str:
        return f"batches={self.batches}"


class BatchStatistics(nn.Module):
    """Standardise a teacher's features by the mean and variance of their channels in the batch."""

    def forward(self, features: Tensor, moments: Tensor | None = None) -> Tensor:
        return standardised(features, moments)


class NoStatistics(nn.Module):
    """Leave a teacher's features as they are."""

    def forward(self, features: Tensor, moments: Tensor | None = None) -> Tensor:
        return features


def build_statistics(width: int, statistics: int | str) -> nn.Module:
    """Build the module for the option `statistics` of a loss: `"batch"`, `"none"`, or a number of batches."""
    kinds = {BATCH: BatchStatistics, NONE: NoStatistics}
    return kinds[statistics]() if statistics in kinds else FixedStatistics(width, statistics)


def check_statistics(loss: str, statistics: int | str) -> None:
    """
    Check the option `statistics` of a loss.

    Raises:
        ValueError: if it is neither `"batch"` nor `"none"` nor a positive integer.
    """
    if statistics not in (BATCH, NONE) and not (type(statistics) is int and statistics > 0):
        raise ValueError(
            f"statistics={statistics!r} says nothing about the teacher's statistics in the loss {loss!r}. Allowed are "
            f"{BATCH!r}, {NONE!r} and the number of batches to measure, an integer above 0. Write for example "
            f"`losses={{{loss!r}: {{'statistics': 500}}}}`."
        )


def standardised(tokens: Tensor, moments: Tensor | None = None) -> Tensor:
    """
    Standardise tokens to mean 0 and variance 1 in each channel over a batch. A constant channel becomes 0.

    Args:
        tokens (`Tensor` of shape `(images, tokens, channels)` or `(images, channels)`):
            Tokens or embeddings of images of the batch.
        moments (`Tensor` of shape `(batch, 2, channels)`, *optional*):
            Mean and mean square of each image's tokens, for the whole batch. `None` if `tokens` are the whole batch.
    """
    mean, square = moments_of(tokens, moments).mean(dim=0)
    return (tokens - mean) / deviation(mean, square)


def moments_of(features: Tensor, moments: Tensor | None = None) -> Tensor:
    """Return `moments`, or those of features in which each row is an image, of shape `(images, 2, channels)`."""
    if moments is not None:
        return moments
    tokens = features.reshape(len(features), -1, features.shape[-1])
    return torch.stack([tokens.mean(dim=1), tokens.square().mean(dim=1)], dim=1)


def deviation(mean: Tensor, square: Tensor) -> Tensor:
    """Return the standard deviation `(channels,)` of channels with this mean and mean square, above 0."""
    variance = torch.maximum(square - mean.square(), VARIANCE_FLOOR * square)
    return variance.clamp_min(torch.finfo(variance.dtype).tiny).sqrt()
