"""The native format: stock classes of transformers, which need none of our code."""

from pathlib import Path

import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionModel,
    Dinov2Model,
    PreTrainedModel,
    ProcessorMixin,
    VisionTextDualEncoderModel,
)

from ..models import TimmCLIPModel
from .trunks import convert_trunk

VISION_FOLDER = "vision_model"


def to_native(model: PreTrainedModel) -> PreTrainedModel:
    """
    Return the same dual encoder in a class of transformers; a model of transformers is returned as it is.

    Args:
        model ([`~transformers.PreTrainedModel`]): A model of [`load_clip`], in fp32 on the CPU.

    Returns:
        [`~transformers.CLIPModel`] or [`~transformers.VisionTextDualEncoderModel`].

    Raises:
        ValueError: There is no such class; the message says why and which format to take.
    """
    if not isinstance(model, TimmCLIPModel):
        return model
    try:
        tower = convert_trunk(model.vision_model)
    except ValueError as error:
        raise ValueError(
            f"{model.config.vision_config.architecture!r} cannot be exported as 'native': {error}. Allowed are vision "
            "transformers of timm that take their class token. Export it as 'remote-code'."
        ) from error
    return with_clip_tower(model, tower) if isinstance(tower, CLIPVisionModel) else with_dinov2_tower(model, tower)


@torch.no_grad()
def with_clip_tower(model: TimmCLIPModel, tower: CLIPVisionModel) -> CLIPModel:
    tower.config.projection_dim = model.config.projection_dim
    config = CLIPConfig(
        text_config=model.config.text_config.to_dict(),
        vision_config=tower.config.to_dict(),
        projection_dim=model.config.projection_dim,
        logit_scale_init_value=model.config.logit_scale_init_value,
    )
    native = CLIPModel(config).eval()
    native.vision_model = tower
    copy_the_rest(model, native)
    return native


@torch.no_grad()
def with_dinov2_tower(model: TimmCLIPModel, tower: Dinov2Model) -> VisionTextDualEncoderModel:
    config = VisionTextDualEncoderModel.config_class.from_vision_text_configs(
        tower.config, model.config.text_config, projection_dim=model.config.projection_dim
    )
    native = VisionTextDualEncoderModel(config, vision_model=tower, text_model=model.text_model).eval()
    copy_the_rest(model, native)
    return native


def copy_the_rest(model: TimmCLIPModel, native: PreTrainedModel) -> None:
    """Copy all weights but the image tower's; the names are the same in all three classes."""
    rest = {key: value for key, value in model.state_dict().items() if not key.startswith("vision_model.")}
    missing, unexpected = native.load_state_dict(rest, strict=False)
    assert not unexpected and all(key.startswith("vision_model.") for key in missing)


def write_native(folder: Path, model: PreTrainedModel, processor: ProcessorMixin) -> None:
    """
    Write a native model with its processor, and its image tower alone in the subfolder `vision_model`.

    The tower is for what takes a vision model, such as `pipeline("image-feature-extraction")` or a LLaVA.
    """
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    model.vision_model.save_pretrained(folder / VISION_FOLDER)
    processor.image_processor.save_pretrained(folder / VISION_FOLDER)


__all__ = ["VISION_FOLDER", "to_native", "write_native"]
