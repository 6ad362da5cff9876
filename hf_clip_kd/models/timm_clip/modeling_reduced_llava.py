"""LLaVA on a [`ReducedTower`] for a process without this package. The model's folder holds a copy of this file."""

from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
)

from .configuration_reduced_tower import ReducedTowerConfig
from .modeling_reduced_tower import ReducedTower
from .tower_registration import register_tower

register_tower(ReducedTowerConfig, ReducedTower)


class ReducedLlavaConfig(LlavaConfig):
    """[`~transformers.LlavaConfig`] of the same `model_type`."""


class ReducedLlavaForConditionalGeneration(LlavaForConditionalGeneration):
    """[`~transformers.LlavaForConditionalGeneration`] whose file registers the tower when it is imported."""

    config_class = ReducedLlavaConfig
    config: ReducedLlavaConfig


class ReducedLlavaNextConfig(LlavaNextConfig):
    """[`~transformers.LlavaNextConfig`] of the same `model_type`, for images in tiles."""


class ReducedLlavaNextForConditionalGeneration(LlavaNextForConditionalGeneration):
    """[`~transformers.LlavaNextForConditionalGeneration`] whose file registers the tower when it is imported."""

    config_class = ReducedLlavaNextConfig
    config: ReducedLlavaNextConfig


__all__ = [
    "ReducedLlavaConfig",
    "ReducedLlavaForConditionalGeneration",
    "ReducedLlavaNextConfig",
    "ReducedLlavaNextForConditionalGeneration",
]
