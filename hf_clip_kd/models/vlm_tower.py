"""Vision tower inside of a vision-language model, such as a LLaVA whose tower was tuned."""

from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import (
    MODEL_MAPPING,
    AutoModelForImageTextToText,
    BaseImageProcessor,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from .completeness import REPORTED, check_complete
from .timm_clip.modeling_reduced_tower import ReducedTower, inner_tower

RULE = "A tower must have all its weights. Save the whole model with model.save_pretrained and give that folder."


def is_vlm(config: PreTrainedConfig) -> bool:
    """Tell if a configuration is that of a language model that sees. BLIP's is that of a dual encoder as well."""
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return False
    return type(config) not in MODEL_MAPPING or not hasattr(MODEL_MAPPING[type(config)], "get_text_features")


class ProjectedTower(NamedTuple):
    """
    The vision tower of a vision-language model, and what its language model gets of it.

    `projector` maps each token of the entry `layer` of the tower's `hidden_states`. Both are `None` for a model that
    is no LLaVA, reads several layers at once, or has reduced tokens.
    """

    tower: PreTrainedModel
    projector: nn.Module | None
    layer: int | None


def load_vlm_tower(name: str, trust_remote_code: bool = False) -> PreTrainedModel:
    """
    Load a vision-language model, and keep its vision tower in fp32.

    The whole model is in memory for a moment, in the type of its files.

    Args:
        name (`str`): Folder or Hub id.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Allow code that lies there to run.

    Raises:
        ValueError: The model has no tower of its own, or the tower lacks weights.
    """
    return _tower_of(*_load(name, trust_remote_code), name)


def load_projected_tower(name: str, trust_remote_code: bool = False) -> ProjectedTower:
    """
    Do what [`load_vlm_tower`] does, and keep the projector of a LLaVA, too.

    Raises:
        ValueError: As there, or the projector lacks weights.
    """
    model, report = _load(name, trust_remote_code)
    tower, layer = _tower_of(model, report, name), getattr(model.config, "vision_feature_layer", None)
    reduced = isinstance(model.get_encoder("image"), ReducedTower)  # Its projector reads other tokens.
    if model.config.model_type != "llava" or not isinstance(layer, int) or reduced:
        return ProjectedTower(tower, None, None)
    projector = model.base_model.multi_modal_projector
    return ProjectedTower(tower, _complete(projector, model, report, name), layer)


def _load(name: str, trust_remote_code: bool) -> tuple[PreTrainedModel, dict[str, Any]]:
    return AutoModelForImageTextToText.from_pretrained(
        name, dtype="auto", trust_remote_code=trust_remote_code, **REPORTED
    )


def _tower_of(model: PreTrainedModel, report: dict[str, Any], name: str) -> PreTrainedModel:
    tower = model.get_encoder("image")
    if tower in (model, model.base_model):
        raise ValueError(
            f"{name!r} holds a {type(model).__name__}, in which no vision tower can be told from the rest. Allowed "
            "are models with one, such as LLaVA, PaliGemma or InternVL. Load the tower yourself, and write "
            "CLIPTeacher(tower, processor=...)."
        )
    return _complete(inner_tower(tower), model, report, name)


def _complete(part: nn.Module, model: PreTrainedModel, report: dict[str, Any], name: str) -> nn.Module:
    """Return a part of a model in fp32 and eval mode, if it has all its weights."""
    prefix = next(key for key, module in model.named_modules() if module is part)
    check_complete(report, repr(name), part, RULE, prefix=f"{prefix}.")
    return part.to(torch.float32).eval()


def square_view(image_processor: Any, config: PreTrainedConfig) -> BaseImageProcessor:
    """
    Return an image processor that squeezes a whole image into the square that a tower was made for.

    A vision-language model may cut an image into tiles, or keep its shape. A LLaVA's own processor stays as it is, and
    so does that of a tower without a size.

    Args:
        image_processor ([`~transformers.BaseImageProcessor`]): Processor of the whole model.
        config ([`~transformers.PreTrainedConfig`]): Configuration of the whole model.
    """
    side = getattr(getattr(config, "vision_config", None), "image_size", None)
    side = max(side) if isinstance(side, list | tuple) else side
    if config.model_type == "llava" or side is None:
        return image_processor
    return CLIPImageProcessorPil(
        size={"height": side, "width": side},
        do_center_crop=False,
        resample=image_processor.resample,
        do_rescale=image_processor.do_rescale,
        rescale_factor=image_processor.rescale_factor,
        do_normalize=image_processor.do_normalize,
        image_mean=list(image_processor.image_mean),
        image_std=list(image_processor.image_std),
    )


__all__ = ["ProjectedTower", "is_vlm", "load_projected_tower", "load_vlm_tower", "square_view"]
