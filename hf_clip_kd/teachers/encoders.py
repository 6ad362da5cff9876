"""Models that a [`CLIPTeacher`] freezes: load them by name with their processor, and read their scale."""

from __future__ import annotations

import math
import os
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedConfig

from ..models.load_tower import LOADERS
from ..models.loading import load_clip
from ..models.names import LIBRARY_FORMS, parse_name
from ..models.open_clip import is_open_clip
from ..models.pretrained_tower import (
    is_dual_encoder,
    is_vision_model,
    load_pretrained_tower,
    load_projected,
    vision_class,
)
from ..models.vlm_tower import is_vlm
from .processors import image_size
from .vision import VisionTower

FORMS = (
    "A teacher is a folder or Hub id of a transformers dual encoder (CLIP, SigLIP, SigLIP 2, ...), vision model "
    f"(DINOv2, ...) or LLaVA, {LIBRARY_FORMS}, or a model together with `processor`, and load_teacher also takes "
    "lists of these"
)


def load_encoder(source, processor, trust_remote_code: bool) -> tuple[nn.Module, Any, str]:
    """
    Load a dual encoder, or a vision model behind its interface, and find its processor.

    Args:
        source (`str`, `os.PathLike` or `nn.Module`), processor, trust_remote_code: Arguments of [`CLIPTeacher`].

    Returns:
        `tuple`: the model, its processor (for open_clip the tokenizer or `None`) and its name.

    Raises:
        ValueError: There is nothing of that name, or it is no teacher.
    """
    if isinstance(source, nn.Module):
        return *_given(source, processor), type(source).__name__
    name = os.fspath(source)
    kind = parse_name(name).kind
    if kind == "open_clip":
        from ..models.open_clip.loading import load_open_clip

        return *load_open_clip(name, tokenizer=processor), name
    if kind in ("preset", "json"):
        raise ValueError(
            f"The teacher {name!r} is a preset, which has random weights and nothing to teach. {FORMS}. Train it "
            "first and give its folder. To distil from noise on purpose, pass the model: "
            f"`model, processor = load_clip({name!r})`, then CLIPTeacher(model, processor=processor)."
        )
    if kind in LOADERS:
        tower, found = LOADERS[kind](name)
        return *_given(tower, processor or found), name
    config = _config(name, trust_remote_code) if kind in ("folder", "hub") else None
    if config is not None and is_vlm(config):
        (tower, projector, layer), found = load_projected(name, config, trust_remote_code)
        found = processor or found
        return VisionTower(tower, image_size(found), projector, layer), found, name
    if config is not None and vision_class(config) is not None:
        tower, found = load_pretrained_tower(name, trust_remote_code, projection=True)
        return *_given(tower, processor or found), name
    model, found = load_clip(name, trust_remote_code=trust_remote_code)
    return model.float(), processor or found, name


def log_scale(model: nn.Module, factor: float | None) -> Tensor | None:
    """Return the logarithm of `factor`, by default of the model's own scale, 0-dim; `None` if it has none."""
    if factor is not None:
        return torch.tensor(math.log(factor))
    if hasattr(model, "temperature"):  # ALIGN divides by it.
        return -model.temperature.detach().float().log().reshape(())
    return scalar(model, "logit_scale")


def scalar(model: nn.Module, name: str) -> Tensor | None:
    """Return a copy of a model's parameter of this name, 0-dim in float32; `None` if there is none."""
    value = getattr(model, name, None)
    return None if value is None else value.detach().clone().float().reshape(())


def _config(name: str, trust_remote_code: bool) -> PreTrainedConfig | None:
    """Return the configuration that lies here, if any: [`load_clip`] complains where there is nothing."""
    try:
        return AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError):
        return None


def _given(model: nn.Module, processor) -> tuple[nn.Module, Any]:
    """Accept a ready model as a dual encoder, or put an image tower behind that interface."""
    if is_open_clip(model) or is_dual_encoder(type(model)):
        return model, processor
    if not is_vision_model(type(model)):
        raise ValueError(
            f"The teacher {type(model).__name__!r} is no model that embeds images: it has neither get_image_features "
            f"and get_text_features, nor pixel_values as its input. {FORMS}. Wrap other models in a function: "
            "FunctionTeacher(function, processor=..., dims=CLIPDims(...))."
        )
    image_processor = getattr(processor, "image_processor", processor)
    if image_processor is None:
        raise ValueError(
            f"The teacher {type(model).__name__!r} comes without an image processor. A vision model needs one, saved "
            "beside the model or passed. Write CLIPTeacher(model, "
            "processor=AutoImageProcessor.from_pretrained('...'))."
        )
    return VisionTower(model, image_size(image_processor)), image_processor


__all__ = ["load_encoder", "log_scale", "scalar"]
