"""Show an image tower only some of the patches."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from transformers import PreTrainedModel

from .layout import token_layout
from .tokens import describe

# Stock towers whose `embeddings` return the prefix tokens and all patches with their positions, and whose other layers
# take any number of them.
STOCK_TOWERS = ("clip_vision_model", "metaclip_2_vision_model", "siglip_vision_model")


@contextmanager
def drop_patches(model: PreTrainedModel, mask_ratio: float) -> Iterator[None]:
    """
    Within this context the image tower sees of each image only a random part of the patches, and computes only these.

    The choice is each image's own, from torch's global random numbers on the device of the images. Class and register
    tokens stay, and a patch keeps the position embedding of its place.

    Args:
        model ([`~transformers.PreTrainedModel`]): A dual encoder whose image tower is a ViT.
        mask_ratio (`float`): Share of the patches to leave out, at least 0 and less than 1; one patch always stays.

    Raises:
        ValueError: The ratio is out of range, or the image tower needs all patches.

    Example:

    ```python
    with drop_patches(model, 0.75):
        embeds, _ = encode_images(model, pixel_values)
    ```
    """
    if not 0 <= mask_ratio < 1:
        raise ValueError(
            f"mask_ratio={mask_ratio!r} is no share of patches to leave out; allowed are numbers of at least 0 and less "
            "than 1; write for example drop_patches(model, 0.75)."
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
    Raises:
        ValueError: [`drop_patches`] cannot be used with this model.
    """
    last_of_embedding(model)


def last_of_embedding(model: PreTrainedModel) -> nn.Module:
    """The module whose output are the prefix tokens and the patches with their positions, before the first block."""
    config = model.config.vision_config
    if config.model_type in STOCK_TOWERS:
        return model.vision_model.embeddings
    trunk = getattr(model.vision_model, "trunk", None)
    # Without a class token `TimmVisionModel` asks timm for maps, which fewer patches do not fill.
    if isinstance(trunk, VisionTransformer) and config.num_prefix_tokens > 0:
        return trunk.patch_drop
    raise ValueError(
        f"{describe(model)} cannot leave out patches, as it needs them all on their grid; those that can are ViTs: CLIP, "
        "MetaCLIP 2 and SigLIP of transformers and timm's VisionTransformer with a class token (not convnets, Swin, "
        "XCiT or MobileViT); leave 'mfd' out of `losses`, or take a student such as load_clip('ViT-T-16')."
    )


def keep_some(tokens: torch.Tensor, mask_ratio: float, num_prefix: int) -> torch.Tensor:
    """Tokens (B, num_prefix + N, C) without a random part of the N patches, the others in their order."""
    prefix, patches = tokens[:, :num_prefix], tokens[:, num_prefix:]
    batch, count, channels = patches.shape
    kept = max(1, round(count * (1 - mask_ratio)))
    noise = torch.rand(batch, count, device=tokens.device)
    index = noise.argsort(dim=1)[:, :kept].sort(dim=1).values
    return torch.cat([prefix, patches.gather(1, index[..., None].expand(-1, -1, channels))], dim=1)


__all__ = ["check_can_drop_patches", "drop_patches"]
