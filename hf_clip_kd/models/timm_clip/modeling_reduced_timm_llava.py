"""LLaVA on a [`ReducedTower`] around a [`TimmVisionModel`]. Importing this file registers both."""

from .modeling_reduced_llava import (
    ReducedLlavaConfig,
    ReducedLlavaForConditionalGeneration,
    ReducedLlavaNextConfig,
    ReducedLlavaNextForConditionalGeneration,
)
from .modeling_timm_llava import TimmLlavaConfig

__all__ = [
    "ReducedLlavaConfig",
    "ReducedLlavaForConditionalGeneration",
    "ReducedLlavaNextConfig",
    "ReducedLlavaNextForConditionalGeneration",
    "TimmLlavaConfig",
]
