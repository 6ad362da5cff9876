"""Feature levels of a trunk: as tokens, and in one shape so that they can be read together."""

import torch
from torch import nn


def align_levels(maps: dict[int, torch.Tensor], levels: set[int]) -> dict[int, torch.Tensor]:
    """
    Brings some feature maps onto one grid and one width, without a weight.

    Args:
        maps (`dict[int, torch.Tensor]`): From a level's number to its map (B, C, H, W), shallow ones first.
        levels (`set[int]`): Those to change: averaged over the cells of the deepest one's grid, then filled with channels
            of zeros up to the width of the widest.

    Returns:
        `dict[int, torch.Tensor]`: All maps; those not in `levels` as they were.
    """
    if not levels:
        return maps
    grid = maps[max(levels)].shape[2:]
    width = max(maps[level].shape[1] for level in levels)
    return {level: to_shape(one, grid, width) if level in levels else one for level, one in maps.items()}


def to_shape(features: torch.Tensor, grid: torch.Size, width: int) -> torch.Tensor:
    if features.shape[2:] != grid:
        features = nn.functional.adaptive_avg_pool2d(features, grid)
    return nn.functional.pad(features, (0, 0, 0, 0, 0, width - features.shape[1]))


def to_tokens(features: torch.Tensor, layout: str) -> torch.Tensor:
    """Features (B, C, H, W), (B, H, W, C) or already (B, N, C) as (B, N, C); `layout` is `"NCHW"` or `"NHWC"`."""
    if features.ndim == 3:
        return features
    return features.flatten(1, 2) if str(layout) == "NHWC" else features.flatten(2).transpose(1, 2)


__all__ = ["align_levels", "to_tokens"]
