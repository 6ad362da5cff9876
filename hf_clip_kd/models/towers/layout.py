"""How the tokens of an image tower lie: the patch grid and what stands before it."""

from typing import NamedTuple

from transformers import PreTrainedConfig


class TokenLayout(NamedTuple):
    """`last_hidden_state` of an image tower is (B, num_prefix_tokens + rows * columns, C), `grid` = (rows, columns)."""

    grid: tuple[int, int]
    num_prefix_tokens: int


# Stock towers without a class token; their configurations do not say so.
TOWERS_WITHOUT_PREFIX = ("siglip_vision_model",)


def token_layout(vision_config: PreTrainedConfig) -> TokenLayout:
    """
    The layout of the tokens of an image tower, from its configuration alone.

    Args:
        vision_config ([`~transformers.PreTrainedConfig`]):
            Of a [`TimmVisionModel`], or of a stock transformer tower with `image_size` and `patch_size`.

    Raises:
        ValueError: The configuration names no grid and no patch size.
    """
    if hasattr(vision_config, "num_prefix_tokens") and hasattr(vision_config, "grid"):
        return TokenLayout(tuple(vision_config.grid), vision_config.num_prefix_tokens)
    if not (hasattr(vision_config, "image_size") and hasattr(vision_config, "patch_size")):
        raise ValueError(
            f"The grid of an image tower of type {vision_config.model_type!r} is unknown; "
            "its configuration must have image_size and patch_size, or grid and num_prefix_tokens; "
            "use a ViT tower (CLIP, SigLIP) or a timm student of load_clip."
        )
    side = vision_config.image_size // vision_config.patch_size
    return TokenLayout((side, side), 0 if vision_config.model_type in TOWERS_WITHOUT_PREFIX else 1)


__all__ = ["TokenLayout", "token_layout"]
