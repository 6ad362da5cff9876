"""Divergences of a student's distribution over tokens from a teacher's, position by position."""

from collections.abc import Callable

import torch
from torch import Tensor

CANDIDATES = 64  # Largest logits in which DBiLD looks for the knee.


def forward_kl(target: Tensor, logits: Tensor, temperature: float = 1.0) -> Tensor:
    """
    Compute `T² · KL(softmax(target / T) ‖ softmax(logits / T))` ([Hinton](https://huggingface.co/papers/1503.02531)).

    The square keeps the size of the gradient at any temperature `T`.

    Args:
        target (`Tensor` of shape `(positions, tokens)`): The teacher's logits, or logarithms of its probabilities.
        logits (`Tensor` of shape `(positions, tokens)`): The student's.
        temperature (`float`): `T`, above 0.

    Returns:
        `Tensor` of shape `(positions,)`, in nats times `T²`.
    """
    return temperature**2 * _kl((target / temperature).log_softmax(-1), (logits / temperature).log_softmax(-1))


def reverse_kl(target: Tensor, logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Compute `T² · KL(softmax(logits / T) ‖ softmax(target / T))`, with arguments and result of [`forward_kl`]."""
    return forward_kl(logits, target, temperature)


def dbild(target: Tensor, logits: Tensor, temperature: float = 1.0) -> Tensor:
    """
    Compute the reverse divergence on the teacher's largest logits, plus the same on the student's largest logits.

    Both distributions are normalised among the chosen tokens. Their number is the knee of the sorted logits, see
    [`knee`]. This is DBiLD of [Switch-KD](https://huggingface.co/papers/2604.14629), with `T²` as in [`forward_kl`].
    """
    return _led_by(target, target, logits, temperature) + _led_by(logits, target, logits, temperature)


def knee(values: Tensor) -> Tensor:
    """
    Count the values up to the knee of each row, at least 2 ([Kneedle](https://doi.org/10.1109/ICDCSW.2011.20)).

    Both axes are scaled to lengths of 1. The knee is the place farthest below the line from the first to the last
    value.

    Args:
        values (`Tensor` of shape `(positions, n)`): Values in descending order.

    Returns:
        `Tensor` of shape `(positions, 1)`, integers from 2 to `n`.
    """
    first, last = values[:, :1], values[:, -1:]
    heights = (values - last) / (first - last).clamp_min(torch.finfo(values.dtype).tiny)
    line = torch.linspace(1, 0, values.shape[1], dtype=values.dtype, device=values.device)
    return (line - heights).argmax(dim=1, keepdim=True).add(1).clamp(min=2)


def _led_by(leader: Tensor, target: Tensor, logits: Tensor, temperature: float) -> Tensor:
    largest, ids = leader.detach().topk(min(CANDIDATES, leader.shape[-1]), dim=-1)
    kept = torch.arange(ids.shape[1], device=ids.device) < knee(largest)
    # A finite floor: the difference of two infinities is no number.
    floor = torch.finfo(logits.dtype).min / 4
    chosen = [(x.gather(-1, ids) / temperature).masked_fill(~kept, floor).log_softmax(-1) for x in (logits, target)]
    return temperature**2 * _kl(*chosen)


def _kl(p: Tensor, q: Tensor) -> Tensor:
    return (p.exp() * (p - q)).sum(dim=-1)


DIVERGENCES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "kl": forward_kl,
    "reverse_kl": reverse_kl,
    "dbild": dbild,
}
