"""Configuration of an image tower whose patch tokens are made fewer."""

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec


class ReducedTowerConfig(PreTrainedConfig):
    r"""
    Image tower with fewer tokens than it computes.

    Args:
        tower_config (`dict` or [`~transformers.PreTrainedConfig`], *optional*):
            The tower that computes the tokens, any that `AutoModel` builds.
        reduction (`str`, *optional*, defaults to `"pool"`):
            `"pool"` averages neighbours. `"shuffle"` lays a square of neighbours side by side, so no number is lost.
        tower_grid (`int`, *optional*, defaults to 7):
            Patches of the tower per side.
        tower_prefix_tokens (`int`, *optional*, defaults to 0):
            Tokens of the tower before its patches, which are dropped.
        grid (`list[int]`, *optional*, defaults to `[7, 7]`):
            Rows and columns of the tokens that remain.
        num_prefix_tokens (`int`, *optional*, defaults to 0):
            Tokens before them, always 0.
        hidden_size (`int`, *optional*, defaults to 768):
            Width of a token that remains.
        image_size (`int`, *optional*, defaults to 224):
            Side of the square input in pixels.
        patch_size (`int`, *optional*, defaults to 32):
            Pixels of input per side of a token that remains, `image_size // grid[0]`.
    """

    model_type = "reduced_tower"
    base_config_key = "vision_config"
    sub_configs_defaults = {"tower_config": SubConfigSpec(config_class=AutoConfig, model_type="clip_vision_model")}

    tower_config: dict | PreTrainedConfig | None = None
    reduction: str = "pool"
    tower_grid: int = 7
    tower_prefix_tokens: int = 0
    grid: list[int] | tuple[int, ...] = (7, 7)
    num_prefix_tokens: int = 0
    hidden_size: int = 768
    image_size: int = 224
    patch_size: int = 32
    num_channels: int = 3


__all__ = ["ReducedTowerConfig"]
