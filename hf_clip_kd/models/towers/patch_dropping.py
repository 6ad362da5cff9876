"""Context that hides a random part of the patches from an image tower."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from transformers import PreTrainedModel

from .layout import token_layout
from .tokens import describe

# Stock towers whose `embeddings` return the prefix tokens and all patches with their positions.
# Their other layers take any number of tokens.
STOCK_TOWERS = ("clip_vision_model", "metaclip_2_vision_model", "siglip_vision_model")


@contextmanager
def drop_patches(model: PreTrainedModel, mask_ratio: float) -> Iterator[None]:
    """
    Drop a random part of the patches of each image within this context. The tower computes only the others.

    Each image has its own choice, from torch's global random numbers on the device of the images. Class and register
    tokens stay, and a patch keeps its position embedding.

    Args:
        model ([`~transformers.PreTrainedModel`]): Dual encoder whose image tower is a ViT.
        mask_ratio (`float`): Share of the patches to leave out, at least 0 and less than 1. One patch always stays.

    Raises:
        ValueError: if the ratio is out of range, or the image tower needs all patches.

    Example:

    ```python
    with drop_patches(model, 0.75):
        embeds, _ = encode_images(model, pixel_values)
    ```
    """
    if not 0 <= mask_ratio < 1:
        raise ValueError(
            f"mask_ratio={mask_ratio!r} is no share of patches to leave out. "
            "Allowed are numbers of at least 0 and less than 1. "
            "Write for example drop_patches(model, 0.75)."
        )
    num_prefix = token_layout(model.config.vision_config).num_prefix_tokens

    def drop(module, args, tokens):
        return keep_some(tokens, mask_ratio, num_prefix)

    handle = last_of_embedding(model).register_forward_hook(drop)
    try:
        yield
    finally:
        handle.remove()


def check_can_drop_patches(model: PreTrainedModel) -> None:
    """
    Check that [`drop_patches`] works with the model.

    Raises:
        ValueError: if the image tower needs all patches.
    """
    last_of_embedding(model)


def last_of_embedding(model: PreTrainedModel) -> nn.Module:
    """Return the module whose output enters the first block: prefix tokens, and patches with their positions."""
    config = model.config.vision_config
    if config.model_type in STOCK_TOWERS:
        return model.vision_model.embeddings
    trunk = getattr(model.vision_model, "trunk", None)
    # `TimmVisionModel` asks timm for maps if the trunk has no class token. Fewer patches do not fill a map.
    if isinstance(trunk, VisionTransformer) and config.num_prefix_tokens > 0:
        return trunk.patch_drop
    raise ValueError(
        f"{describe(model)} cannot leave out patches, because it needs all of them on their grid. ViTs can: "
        "CLIP, MetaCLIP 2 and SigLIP of transformers, and timm's VisionTransformer with a class token (not convnets, "
        "Swin, XCiT or MobileViT). Leave 'mfd' out of `losses`, or take a student such as load_clip('ViT-T-16')."
    )


def keep_some(tokens: torch.Tensor, mask_ratio: float, num_prefix: int) -> torch.Tensor:
    """Drop a random part of the N patches of tokens (B, num_prefix + N, C). The others keep their order."""
    prefix, patches = tokens[:, :num_prefix], tokens[:, num_prefix:]
    batch, count, channels = patches.shape
    kept = max(1, round(count * (1 - mask_ratio)))
    noise = torch.rand(batch, count, device=tokens.device)
    index = noise.argsort(dim=1)[:, :kept].sort(dim=1).values
    return torch.cat([prefix, patches.gather(1, index[..., None].expand(-1, -1, channels))], dim=1)


__all__ = ["check_can_drop_patches", "drop_patches"]
