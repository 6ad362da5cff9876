"""A learned map of image tokens to the width and the grid of another model's."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .base import Projection
from .heads import Norm
from .resample import resample


class Adapter(nn.Module):
    """
    Two linear layers with a norm and a GELU between them, and then bilinear resampling.

    Args:
        width (`int`): Channels of the tokens.
        target_width (`int`): Channels of the result.
        hidden_size (`int`): Channels between the layers.
    """

    def __init__(self, width: int, target_width: int, hidden_size: int):
        super().__init__()
        self.expand, self.norm = Projection(width, hidden_size), Norm(hidden_size)
        self.reduce = Projection(hidden_size, target_width)

    def forward(self, tokens: Tensor, grid: tuple[int, int], target_grid: tuple[int, int]) -> Tensor:
        """
        Map tokens from one grid to another.

        Args:
            tokens (`Tensor` of shape `(images, rows * columns, width)`): Tokens, row by row.
            grid (`tuple[int, int]`): Their rows and columns.
            target_grid (`tuple[int, int]`): Rows and columns of the result.

        Returns:
            `Tensor` of shape `(images, target rows * target columns, target_width)`.
        """
        tokens = self.reduce(F.gelu(self.norm(self.expand(tokens))))
        return resample(tokens, grid, target_grid)


__all__ = ["Adapter"]
