"""Heads that map a student's tokens or embeddings to the teacher's width."""

import torch.nn.functional as F
from torch import Tensor, nn

from ..base import Projection

TEACHER = "teacher"  # Value of `hidden_dim` for the teacher's own width.


class Norm(nn.LayerNorm):
    """LayerNorm that computes in the type of its input, as [`Projection`] does."""

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        return F.layer_norm(x, self.normalized_shape, weight, bias, self.eps)


class MLPHead(nn.Sequential):
    """
    Linear without bias, LayerNorm, GELU, Linear without bias, from `(..., width)` to `(..., target)`.

    This is the head of [EUPE](https://huggingface.co/papers/2603.22387).
    [AM-RADIO](https://huggingface.co/papers/2312.06709) says nothing about a bias.

    Args:
        width (`int`), hidden (`int`), target (`int`): Channels of the input, between both maps, and of the output.
    """

    def __init__(self, width: int, hidden: int, target: int):
        super().__init__(
            Projection(width, hidden, bias=False), Norm(hidden), nn.GELU(), Projection(hidden, target, bias=False)
        )


def build_head(width: int, target: int, hidden: int | str | None) -> nn.Module:
    """
    Build the head between two widths.

    Args:
        width (`int`), target (`int`): Channels of the student and of the teacher.
        hidden (`int` or `"teacher"`, *optional*):
            Channels inside an [`MLPHead`], which is there for equal widths, too. `None` gives a `Linear`, and no map
            if the widths are equal.
    """
    if hidden is not None:
        return MLPHead(width, target if hidden == TEACHER else hidden, target)
    return nn.Identity() if width == target else Projection(width, target)


def check_hidden_dim(loss: str, hidden: int | str | None) -> None:
    """
    Check the option `hidden_dim` of a loss.

    Raises:
        ValueError: if it is neither a positive integer nor `"teacher"` nor `None`.
    """
    if hidden is not None and hidden != TEACHER and not (type(hidden) is int and hidden > 0):
        raise ValueError(
            f"hidden_dim={hidden!r} is no width of the head of the loss {loss!r}. Allowed are integers above 0, "
            f"{TEACHER!r} for the teacher's width, and None for a linear head. Write for example "
            f"`losses={{{loss!r}: {{'hidden_dim': 3072}}}}`."
        )
