"""Resampling of token maps from one grid to another."""

import torch.nn.functional as F
from torch import Tensor


def resample(tokens: Tensor, grid: tuple[int, int], target_grid: tuple[int, int]) -> Tensor:
    """
    Resample the tokens of images to another grid over the same image, bilinearly. A coarser grid averages.

    Args:
        tokens (`Tensor` of shape `(images, rows * columns, channels)`): Tokens, row by row.
        grid (`tuple[int, int]`): Rows and columns of the tokens.
        target_grid (`tuple[int, int]`): Rows and columns of the result.

    Returns:
        `Tensor` of shape `(images, target rows * target columns, channels)`, or `tokens` itself if the grids are
        equal.
    """
    if grid == target_grid:
        return tokens
    maps = tokens.transpose(1, 2).unflatten(2, grid)
    maps = F.interpolate(maps, target_grid, mode="bilinear", align_corners=False, antialias=True)
    return maps.flatten(2).transpose(1, 2)
