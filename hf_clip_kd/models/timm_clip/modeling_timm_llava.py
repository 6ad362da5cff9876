"""A LLaVA on a [`TimmVisionModel`], for a process that does not have this package: its folder brings this file along."""

from transformers import AutoConfig, AutoModel, LlavaConfig, LlavaForConditionalGeneration
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from .configuration_timm_clip import TimmVisionConfig
from .modeling_timm_clip import TimmVisionModel

# The stock classes build the tower from its type. Where the package has registered it, its classes stay; those of
# another folder give way, as each folder is read by the code that was saved with it.
KNOWN = CONFIG_MAPPING[TimmVisionConfig.model_type] if TimmVisionConfig.model_type in CONFIG_MAPPING else None
if KNOWN is None or KNOWN.__module__.startswith("transformers_modules."):
    AutoConfig.register(TimmVisionConfig.model_type, TimmVisionConfig, exist_ok=True)
    AutoModel.register(TimmVisionConfig, TimmVisionModel, exist_ok=True)


class TimmLlavaConfig(LlavaConfig):
    """[`~transformers.LlavaConfig`], of the same `model_type`: without the package's code it is a stock LLaVA."""


class TimmLlavaForConditionalGeneration(LlavaForConditionalGeneration):
    """[`~transformers.LlavaForConditionalGeneration`]; reading its file registers the tower."""

    config_class = TimmLlavaConfig
    config: TimmLlavaConfig


__all__ = ["TimmLlavaConfig", "TimmLlavaForConditionalGeneration"]
