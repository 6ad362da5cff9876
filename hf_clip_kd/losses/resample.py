"""Token maps from one grid to another."""

import torch.nn.functional as F
from torch import Tensor


def resample(tokens: Tensor, grid: tuple[int, int], target_grid: tuple[int, int]) -> Tensor:
    """
    The tokens of an image at the places of another grid over the same image, bilinear, averaging where it is coarser.

    Args:
        tokens (`Tensor` of shape `(images, rows * columns, channels)`): Row by row.
        grid (`tuple[int, int]`): Their rows and columns.
        target_grid (`tuple[int, int]`): The rows and columns wanted.

    Returns:
        `Tensor` of shape `(images, target rows * target columns, channels)`; `tokens` itself if the grids are the same.
    """
    if grid == target_grid:
        return tokens
    maps = tokens.transpose(1, 2).unflatten(2, grid)
    maps = F.interpolate(maps, target_grid, mode="bilinear", align_corners=False, antialias=True)
    return maps.flatten(2).transpose(1, 2)
