"""Resampling of token maps from one grid to another."""

import math

import torch.nn.functional as F
from torch import Tensor

GRIDS = ("student", "teacher", "larger")
INTERPOLATIONS = ("bilinear", "bicubic")


def resample(
    tokens: Tensor, grid: tuple[int, int], target_grid: tuple[int, int], interpolation: str = "bilinear"
) -> Tensor:
    """
    Resample the tokens of images to another grid over the same image. A coarser grid averages.

    Args:
        tokens (`Tensor` of shape `(images, rows * columns, channels)`): Tokens, row by row.
        grid (`tuple[int, int]`): Rows and columns of the tokens.
        target_grid (`tuple[int, int]`): Rows and columns of the result.
        interpolation (`str`, *optional*, defaults to `"bilinear"`): `"bilinear"` or `"bicubic"`.

    Returns:
        `Tensor` of shape `(images, target rows * target columns, channels)`, or `tokens` itself if the grids are
        equal.
    """
    if grid == target_grid:
        return tokens
    maps = tokens.transpose(1, 2).unflatten(2, grid)
    # PyTorch has another cubic curve with `antialias`, and a grid with more places in both directions needs none.
    finer = all(target >= own for own, target in zip(grid, target_grid, strict=True))
    antialias = interpolation == "bilinear" or not finer
    maps = F.interpolate(maps, target_grid, mode=interpolation, align_corners=False, antialias=antialias)
    return maps.flatten(2).transpose(1, 2)


def common_grid(student: tuple[int, int], teacher: tuple[int, int], grid: str) -> tuple[int, int]:
    """
    Choose the grid on which tokens of two models are compared.

    Args:
        student (`tuple[int, int]`), teacher (`tuple[int, int]`): Rows and columns of their tokens.
        grid (`str`): An entry of `GRIDS`. `"larger"` is the grid with more places.
    """
    if grid == "larger":
        return max(student, teacher, key=math.prod)
    return teacher if grid == "teacher" else student


def check_resampling(loss: str, grid: str, interpolation: str) -> None:
    """
    Check the options of a loss that resamples tokens.

    Raises:
        ValueError: if one of them is unknown.
    """
    options = (("grid", grid, GRIDS, "larger"), ("interpolation", interpolation, INTERPOLATIONS, "bicubic"))
    for option, value, allowed, example in options:
        if value not in allowed:
            raise ValueError(
                f"{option}={value!r} is no {option} of the loss {loss!r}. Allowed are {list(allowed)}. Write for "
                f"example `losses={{{loss!r}: {{{option!r}: {example!r}}}}}`."
            )
