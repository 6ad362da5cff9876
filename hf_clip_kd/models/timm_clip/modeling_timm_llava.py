"""LLaVA on a [`TimmVisionModel`] for a process without this package. The model's folder holds a copy of this file."""

from transformers import AutoConfig, AutoModel, LlavaConfig, LlavaForConditionalGeneration
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from .configuration_timm_clip import TimmVisionConfig
from .modeling_timm_clip import TimmVisionModel

# The stock classes build the tower from its type. Classes that the package has registered stay.
# Classes of another folder are replaced, because each folder must be read by its own code.
KNOWN = CONFIG_MAPPING[TimmVisionConfig.model_type] if TimmVisionConfig.model_type in CONFIG_MAPPING else None
if KNOWN is None or KNOWN.__module__.startswith("transformers_modules."):
    AutoConfig.register(TimmVisionConfig.model_type, TimmVisionConfig, exist_ok=True)
    AutoModel.register(TimmVisionConfig, TimmVisionModel, exist_ok=True)


class TimmLlavaConfig(LlavaConfig):
    """[`~transformers.LlavaConfig`] of the same `model_type`. It is a stock LLaVA without the code of this package."""


class TimmLlavaForConditionalGeneration(LlavaForConditionalGeneration):
    """[`~transformers.LlavaForConditionalGeneration`] whose file registers the tower when it is imported."""

    config_class = TimmLlavaConfig
    config: TimmLlavaConfig


__all__ = ["TimmLlavaConfig", "TimmLlavaForConditionalGeneration"]
