"""Layout of the tokens of an image tower: the patch grid and the tokens before it."""

from typing import NamedTuple

from transformers import PreTrainedConfig


class TokenLayout(NamedTuple):
    """Layout of `last_hidden_state` (B, num_prefix_tokens + rows * columns, C), with `grid` = (rows, columns)."""

    grid: tuple[int, int]
    num_prefix_tokens: int


# Stock towers without a class token. Their configurations do not name it.
TOWERS_WITHOUT_PREFIX = ("siglip_vision_model",)


def token_layout(vision_config: PreTrainedConfig) -> TokenLayout:
    """
    Read the layout of an image tower's tokens from its configuration.

    Args:
        vision_config ([`~transformers.PreTrainedConfig`]):
            Configuration of a [`TimmVisionModel`], or of a stock tower with `image_size` and `patch_size`.

    Raises:
        ValueError: if the configuration has neither a grid nor a patch size.
    """
    if hasattr(vision_config, "num_prefix_tokens") and hasattr(vision_config, "grid"):
        return TokenLayout(tuple(vision_config.grid), vision_config.num_prefix_tokens)
    if not (hasattr(vision_config, "image_size") and hasattr(vision_config, "patch_size")):
        raise ValueError(
            f"The grid of an image tower of type {vision_config.model_type!r} is unknown. "
            "Its configuration must have image_size and patch_size, or grid and num_prefix_tokens. "
            "Use a ViT tower (CLIP, SigLIP) or a timm student of load_clip."
        )
    side = vision_config.image_size // vision_config.patch_size
    return TokenLayout((side, side), 0 if vision_config.model_type in TOWERS_WITHOUT_PREFIX else 1)


__all__ = ["TokenLayout", "token_layout"]
