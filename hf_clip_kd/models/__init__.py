"""Students: stock [`~transformers.CLIPModel`]s and [`TimmCLIPModel`]. Importing this package registers the latter."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForZeroShotImageClassification,
    AutoProcessor,
    CLIPProcessor,
)

from .configuration_timm_clip import TimmCLIPConfig, TimmVisionConfig
from .layout import TokenLayout, token_layout
from .loading import load_clip
from .modeling_timm_clip import TimmCLIPModel, TimmVisionModel
from .presets import list_models
from .tokenizer import clip_tokenizer

AutoConfig.register(TimmVisionConfig.model_type, TimmVisionConfig, exist_ok=True)
AutoConfig.register(TimmCLIPConfig.model_type, TimmCLIPConfig, exist_ok=True)
AutoModel.register(TimmVisionConfig, TimmVisionModel, exist_ok=True)
AutoModel.register(TimmCLIPConfig, TimmCLIPModel, exist_ok=True)
AutoModelForZeroShotImageClassification.register(TimmCLIPConfig, TimmCLIPModel, exist_ok=True)
AutoProcessor.register(TimmCLIPConfig, CLIPProcessor, exist_ok=True)

__all__ = [
    "TimmCLIPConfig",
    "TimmCLIPModel",
    "TimmVisionConfig",
    "TimmVisionModel",
    "TokenLayout",
    "clip_tokenizer",
    "list_models",
    "load_clip",
    "token_layout",
]
