"""Students: stock [`~transformers.CLIPModel`]s and [`TimmCLIPModel`], which importing this package registers."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForZeroShotImageClassification,
    AutoProcessor,
    CLIPProcessor,
)

from .loading import load_clip
from .presets import list_models
from .processing import context_length, fit_processor
from .timm_clip.configuration_reduced_tower import ReducedTowerConfig
from .timm_clip.configuration_timm_clip import TimmCLIPConfig, TimmVisionConfig
from .timm_clip.modeling_reduced_tower import ReducedTower, inner_tower
from .timm_clip.modeling_timm_clip import TimmCLIPModel, TimmVisionModel
from .tokenizer import clip_tokenizer
from .towers.layout import TokenLayout, token_layout
from .towers.patch_dropping import check_can_drop_patches, drop_patches
from .towers.patch_embeds import check_patch_embeds, encode_layers, encode_patches
from .towers.tokens import check_class_token, encode_images, token_shape

AutoConfig.register(TimmVisionConfig.model_type, TimmVisionConfig, exist_ok=True)
AutoConfig.register(ReducedTowerConfig.model_type, ReducedTowerConfig, exist_ok=True)
AutoConfig.register(TimmCLIPConfig.model_type, TimmCLIPConfig, exist_ok=True)
AutoModel.register(TimmVisionConfig, TimmVisionModel, exist_ok=True)
AutoModel.register(ReducedTowerConfig, ReducedTower, exist_ok=True)
AutoModel.register(TimmCLIPConfig, TimmCLIPModel, exist_ok=True)
AutoModelForZeroShotImageClassification.register(TimmCLIPConfig, TimmCLIPModel, exist_ok=True)
AutoProcessor.register(TimmCLIPConfig, CLIPProcessor, exist_ok=True)

__all__ = [
    "ReducedTower",
    "ReducedTowerConfig",
    "TimmCLIPConfig",
    "TimmCLIPModel",
    "TimmVisionConfig",
    "TimmVisionModel",
    "TokenLayout",
    "check_can_drop_patches",
    "check_class_token",
    "check_patch_embeds",
    "clip_tokenizer",
    "context_length",
    "drop_patches",
    "encode_images",
    "encode_layers",
    "encode_patches",
    "fit_processor",
    "inner_tower",
    "list_models",
    "load_clip",
    "token_layout",
    "token_shape",
]
