"""Image towers that see a random part of the patches."""

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


class PatchDropping:
    """
    Hide a random part of the patches of each image from an image tower, which computes only the others.

    Each image has its own choice, from torch's global random numbers on the device of the images. Class and register
    tokens stay, and a patch keeps its position embedding.

    A hook stays on the tower for good: `torch.compile` breaks a graph where a hook comes or goes. It changes nothing
    outside of [`PatchDropping.hiding`].

    Args:
        model ([`~transformers.PreTrainedModel`]): Dual encoder whose image tower is a ViT.

    Raises:
        ValueError: if the image tower needs all patches.

    Example:

    ```python
    dropping = PatchDropping(model)
    with dropping.hiding(0.75):
        embeds, _ = encode_images(model, pixel_values)
    ```
    """

    def __init__(self, model: PreTrainedModel):
        module = last_of_embedding(model)
        self.num_prefix = token_layout(model.config.vision_config).num_prefix_tokens
        self.mask_ratio: float | None = None
        module.register_forward_hook(self._drop)

    @contextmanager
    def hiding(self, mask_ratio: float) -> Iterator[None]:
        """
        Hide patches within this context.

        Args:
            mask_ratio (`float`): Share of the patches to leave out, at least 0 and less than 1. One always stays.

        Raises:
            ValueError: if the ratio is out of range.
        """
        if not 0 <= mask_ratio < 1:
            raise ValueError(
                f"mask_ratio={mask_ratio!r} is no share of patches to leave out. "
                "Allowed are numbers of at least 0 and less than 1. "
                "Write for example PatchDropping(model).hiding(0.75)."
            )
        self.mask_ratio = mask_ratio
        try:
            yield
        finally:
            self.mask_ratio = None

    def _drop(self, module: nn.Module, args: tuple, tokens: torch.Tensor) -> torch.Tensor | None:
        return None if self.mask_ratio is None else keep_some(tokens, self.mask_ratio, self.num_prefix)


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


__all__ = ["PatchDropping"]
