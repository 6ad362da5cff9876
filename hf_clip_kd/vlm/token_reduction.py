"""Fewer tokens between tower and language model."""

from __future__ import annotations

import math

import torch
from transformers import PreTrainedModel

from ..models import ReducedTower, ReducedTowerConfig
from .image_tokens import ImageTokens, name_of

REDUCTIONS = ("pool", "shuffle")


def check_reduction(reduction: str | None, count: int | None) -> None:
    """
    Refuse a reduction that would have no effect.

    Args:
        reduction (`str`, *optional*), count (`int`, *optional*): See [`reduce_tokens`].

    Raises:
        ValueError: There is a reduction and no number of tokens.
    """
    if reduction is not None and count is None:
        raise ValueError(
            f"`token_reduction={reduction!r}` without `image_tokens`, so all tokens stay. Both belong together. Add "
            "the number of tokens, such as `image_tokens=4`, or leave the reduction out."
        )


def reduce_tokens(
    tower: PreTrainedModel, image_tokens: ImageTokens, count: int, reduction: str, image_size: int
) -> ReducedTower:
    """
    Return a tower that gives the language model `count` tokens of each image.

    Args:
        tower ([`~transformers.PreTrainedModel`]): The tower.
        image_tokens ([`ImageTokens`]): Its tokens, from [`measure_image_tokens`].
        count (`int`): Tokens that remain, a square number.
        reduction (`str`): `"pool"` averages neighbours. `"shuffle"` lays those of a square side by side
            (pixel shuffle, https://huggingface.co/papers/2404.16821). Its tokens are wider.
        image_size (`int`): Side of an image in pixels.

    Raises:
        ValueError: The reduction is unknown, or cannot give this number.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(
            f"token_reduction={reduction!r} is unknown. Allowed are {' and '.join(REDUCTIONS)}. Write for example "
            "build_llava(..., token_reduction='pool')."
        )
    (grid, _), side = image_tokens.grid, math.isqrt(max(count, 0))
    # The processor counts tokens by a whole number of pixels per token.
    sides = [number for number in range(1, grid + 1) if image_size // (image_size // number) == number]
    if reduction == "shuffle":
        sides = [number for number in sides if grid % number == 0]
    if side**2 != count or side not in sides:
        raise ValueError(
            f"image_tokens={count} with token_reduction={reduction!r}: {name_of(tower)} has {grid}x{grid} patches. "
            f"Allowed are {', '.join(str(number**2) for number in reversed(sides))}. Write for example "
            f"build_llava(..., image_tokens={sides[len(sides) // 2] ** 2})."
        )
    width = tower.config.hidden_size * ((grid // side) ** 2 if reduction == "shuffle" else 1)
    config = ReducedTowerConfig(
        tower_config=tower.config,
        reduction=reduction,
        tower_grid=grid,
        tower_prefix_tokens=image_tokens.num_prefix_tokens,
        grid=[side, side],
        hidden_size=width,
        image_size=image_size,
        patch_size=image_size // side,
        num_channels=getattr(tower.config, "num_channels", 3),
    )
    # The meta device takes no memory; the tower with weights takes the place of the one without.
    with torch.device("meta"):
        reduced = ReducedTower(config)
    reduced.tower = tower
    reduced.config.tower_config = tower.config
    return reduced.eval()


__all__ = ["REDUCTIONS", "check_reduction", "reduce_tokens"]
