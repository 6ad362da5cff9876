"""SigLIP 2 with images of any shape (NaFlex): the model takes its packed pixels apart."""

from __future__ import annotations

from typing import Any

from torch import nn

READS = "_reads_packed_pixels"


def read_packed(model: nn.Module) -> nn.Module:
    """
    Let a [`~transformers.Siglip2Model`] read the `pixel_values` of a `NaflexImageProcessor`; others stay as they are.

    Its own three inputs work as before. The model is changed in place, its weights and configuration are not.

    Args:
        model (`nn.Module`): A dual encoder.
    """
    if getattr(getattr(model, "config", None), "model_type", None) == "siglip2" and not hasattr(model, READS):
        setattr(model, READS, model.vision_model.register_forward_pre_hook(_unpacked, with_kwargs=True))
    return model


def _unpacked(tower: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    pixels = kwargs.get("pixel_values")
    if pixels is None or kwargs.get("spatial_shapes") is not None:
        return args, kwargs
    patches, grid = pixels.split([pixels.shape[-1] - 2, 2], dim=-1)
    mask, shapes = (grid[..., 0] > 0).long(), grid[:, 0].long()
    return args, kwargs | {"pixel_values": patches, "pixel_attention_mask": mask, "spatial_shapes": shapes}


__all__ = ["read_packed"]
