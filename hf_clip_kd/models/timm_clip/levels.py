"""Feature levels of a trunk: as tokens, and in one shape so that a LLaVA can read them together."""

import torch
from torch import nn


def align_levels(maps: dict[int, torch.Tensor], levels: set[int]) -> dict[int, torch.Tensor]:
    """
    Bring feature maps to one grid and one width, without weights.

    The maps of `levels` are averaged over the cells of the deepest one's grid. They are then filled with channels of
    zeros to the width of the widest.

    Args:
        maps (`dict[int, torch.Tensor]`): Number of a level and its map (B, C, H, W), shallow levels first.
        levels (`set[int]`): Numbers of the levels to change.

    Returns:
        `dict[int, torch.Tensor]`: All maps. Maps outside of `levels` are unchanged.
    """
    if not levels:
        return maps
    grid = maps[max(levels)].shape[2:]
    width = max(maps[level].shape[1] for level in levels)
    aligned = {level: to_shape(maps[level], grid, width) for level in levels}
    return {level: aligned.get(level, features) for level, features in maps.items()}


def to_shape(features: torch.Tensor, grid: torch.Size, width: int) -> torch.Tensor:
    if features.shape[2:] != grid:
        features = nn.functional.adaptive_avg_pool2d(features, grid)
    return nn.functional.pad(features, (0, 0, 0, 0, 0, width - features.shape[1]))


def to_tokens(features: torch.Tensor, layout: str) -> torch.Tensor:
    """Return features as (B, N, C). They are (B, N, C), or maps of the `layout` `"NCHW"` or `"NHWC"`."""
    if features.ndim == 3:
        return features
    return features.flatten(1, 2) if str(layout) == "NHWC" else features.flatten(2).transpose(1, 2)


def without_embeddings(wanted: bool | int | list[int] | None) -> bool | int | list[int] | None:
    """Return `output_hidden_states` without entry 0, which a text tower has and a trunk does not."""
    return [level for level in wanted if level != 0] if isinstance(wanted, (list, tuple)) else wanted


__all__ = ["align_levels", "to_tokens", "without_embeddings"]
