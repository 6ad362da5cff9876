"""What a teacher's name stands for: its model, and how that model sees images and texts."""

from __future__ import annotations

import copy
import math
import os
from typing import Any

import torch
from torch import Tensor, nn
from transformers import MODEL_MAPPING, AutoConfig

from ..models.loading import list_models, load_clip
from ..models.pretrained_tower import is_dual_encoder, is_vision_model, load_pretrained_tower
from ..models.towers.timm_tower import PREFIX as TIMM_PREFIX
from ..models.towers.timm_tower import load_timm_tower
from .processors import FullLengthTokenizer, NaflexImageProcessor, TeacherProcessor, image_size
from .vision import VisionTower

OPEN_CLIP_PREFIX = "open_clip:"
FORMS = (
    "A teacher is a folder or Hub id of a transformers dual encoder (CLIP, SigLIP, SigLIP 2, ...) or vision model "
    "(DINOv2, ...), 'open_clip:ARCH/TAG', 'open_clip:ARCH//path/to/checkpoint.pt', 'timm:NAME', or a model together with "
    "`processor`; load_teacher also takes lists of these"
)


def load(source, processor, trust_remote_code: bool) -> tuple[nn.Module, Any, str]:
    """
    Args:
        source (`str`, `os.PathLike` or `nn.Module`), processor, trust_remote_code: As [`CLIPTeacher`] takes them.

    Returns:
        The model, its processor (for open_clip the tokenizer or `None`) and its name.

    Raises:
        ValueError: There is nothing under that name, or it is no teacher.
    """
    if isinstance(source, nn.Module):
        return *_given(source, processor), type(source).__name__
    name = os.fspath(source)
    if name.startswith(OPEN_CLIP_PREFIX):
        from ..models.open_clip.loading import load_open_clip

        return *load_open_clip(name, tokenizer=processor), name
    if name.startswith(TIMM_PREFIX):
        tower, found = load_timm_tower(name)
    elif _holds_vision_model(name, trust_remote_code):
        tower, found = load_pretrained_tower(name, trust_remote_code)
    else:
        if name in list_models() or name.endswith(".json"):
            raise ValueError(
                f"The teacher {name!r} is a preset, which has random weights and nothing to teach. {FORMS}. Train it first "
                "and give its folder; or, to distil from noise on purpose, pass the model: "
                f"`model, processor = load_clip({name!r})`, then CLIPTeacher(model, processor=processor)."
            )
        model, found = load_clip(name, trust_remote_code=trust_remote_code)
        return model.float(), processor or found, name
    return *_given(tower, processor or found), name


def make_processor(model: nn.Module, processor, name: str) -> TeacherProcessor:
    """
    How a model sees images and texts.

    Args:
        model (`nn.Module`): From [`load`].
        processor: Likewise.
        name (`str`): For the error.

    Raises:
        ValueError: An image processor or a tokenizer is missing.
    """
    if is_open_clip(model):
        from ..models.open_clip.loading import open_clip_processor

        image_processor, tokenizer = open_clip_processor(model, processor)
        return TeacherProcessor(image_processor, tokenizer, tokenizer.context_length)
    if isinstance(model, VisionTower):
        return TeacherProcessor(processor)
    missing = [part for part in ("image_processor", "tokenizer") if getattr(processor, part, None) is None]
    if missing:
        raise ValueError(
            f"The teacher {name!r} comes without {' and '.join(missing)}. A teacher needs a processor "
            "with `image_processor` and `tokenizer`, saved beside the model or passed. Write "
            "CLIPTeacher(model, processor=AutoProcessor.from_pretrained('...'))."
        )
    image_processor, tokenizer = processor.image_processor, processor.tokenizer
    config = model.config
    length = getattr(config.text_config, "max_position_embeddings", tokenizer.model_max_length)
    if config.model_type == "siglip2":
        image_processor = NaflexImageProcessor(image_processor)
    if config.model_type in ("siglip", "siglip2"):
        tokenizer = FullLengthTokenizer(tokenizer, length)
    elif tokenizer.model_max_length > length:
        # So that `truncation=True` alone never gives more tokens than there are positions.
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.model_max_length = length
    # Some text towers (RoBERTa) have positions that no token takes; their tokenizer knows.
    return TeacherProcessor(image_processor, tokenizer, min(length, tokenizer.model_max_length))


def log_scale(model: nn.Module, factor: float | None) -> Tensor | None:
    """The logarithm of `factor`, else of the model's own scale, 0-dim; ALIGN divides by a temperature instead."""
    if factor is not None:
        return torch.tensor(math.log(factor))
    if hasattr(model, "temperature"):
        return -model.temperature.detach().float().log().reshape(())
    return scalar(model, "logit_scale")


def scalar(model: nn.Module, name: str) -> Tensor | None:
    """A model's parameter of this name as a 0-dim float32 tensor of its own, or `None`."""
    value = getattr(model, name, None)
    return None if value is None else value.detach().clone().float().reshape(())


def is_open_clip(model: nn.Module) -> bool:
    return hasattr(model, "encode_image")


def _holds_vision_model(name: str, trust_remote_code: bool) -> bool:
    """Whether a folder or repository holds a model of images alone; where there is nothing, [`load_clip`] says so."""
    if name in list_models() or not (os.path.isdir(name) or name.count("/") == 1):
        return False
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError):
        return False
    return type(config) in MODEL_MAPPING and is_vision_model(MODEL_MAPPING[type(config)])


def _given(model: nn.Module, processor) -> tuple[nn.Module, Any]:
    """A ready model as a dual encoder, or as an image tower with its image processor."""
    if is_open_clip(model) or is_dual_encoder(type(model)):
        return model, processor
    if not is_vision_model(type(model)):
        raise ValueError(
            f"The teacher {type(model).__name__!r} is no model that embeds images: it has neither get_image_features and "
            f"get_text_features, nor pixel_values as its input. {FORMS}. Wrap other models in a function: "
            "FunctionTeacher(function, processor=..., dims=CLIPDims(...))."
        )
    image_processor = getattr(processor, "image_processor", processor)
    if image_processor is None:
        raise ValueError(
            f"The teacher {type(model).__name__!r} comes without an image processor. A vision model needs one, saved "
            "beside the model or passed. Write CLIPTeacher(model, processor=AutoImageProcessor.from_pretrained('...'))."
        )
    return VisionTower(model, image_size(image_processor)), image_processor
