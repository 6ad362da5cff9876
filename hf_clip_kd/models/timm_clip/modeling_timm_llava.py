"""LLaVA on a [`TimmVisionModel`] for a process without this package. The model's folder holds a copy of this file."""

from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
)

from .configuration_timm_clip import TimmVisionConfig
from .modeling_timm_clip import TimmVisionModel
from .tower_registration import register_tower

register_tower(TimmVisionConfig, TimmVisionModel)


class TimmLlavaConfig(LlavaConfig):
    """[`~transformers.LlavaConfig`] of the same `model_type`. It is a stock LLaVA without the code of this package."""


class TimmLlavaForConditionalGeneration(LlavaForConditionalGeneration):
    """[`~transformers.LlavaForConditionalGeneration`] whose file registers the tower when it is imported."""

    config_class = TimmLlavaConfig
    config: TimmLlavaConfig


class TimmLlavaNextConfig(LlavaNextConfig):
    """[`~transformers.LlavaNextConfig`] of the same `model_type`, for images in tiles."""


class TimmLlavaNextForConditionalGeneration(LlavaNextForConditionalGeneration):
    """[`~transformers.LlavaNextForConditionalGeneration`] whose file registers the tower when it is imported."""

    config_class = TimmLlavaNextConfig
    config: TimmLlavaNextConfig


__all__ = [
    "TimmLlavaConfig",
    "TimmLlavaForConditionalGeneration",
    "TimmLlavaNextConfig",
    "TimmLlavaNextForConditionalGeneration",
]
