"""Students: stock [`~transformers.CLIPModel`]s and [`TimmCLIPModel`], which importing this package registers."""

from importlib import import_module
from typing import Any

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForZeroShotImageClassification,
    AutoProcessor,
    CLIPProcessor,
)

from .timm_clip.configuration_reduced_tower import ReducedTowerConfig
from .timm_clip.configuration_timm_clip import TimmCLIPConfig, TimmVisionConfig
from .timm_clip.modeling_reduced_tower import ReducedTower, inner_tower
from .timm_clip.modeling_timm_clip import TimmCLIPModel, TimmVisionModel

AutoConfig.register(TimmVisionConfig.model_type, TimmVisionConfig, exist_ok=True)
AutoConfig.register(ReducedTowerConfig.model_type, ReducedTowerConfig, exist_ok=True)
AutoConfig.register(TimmCLIPConfig.model_type, TimmCLIPConfig, exist_ok=True)
AutoModel.register(TimmVisionConfig, TimmVisionModel, exist_ok=True)
AutoModel.register(ReducedTowerConfig, ReducedTower, exist_ok=True)
AutoModel.register(TimmCLIPConfig, TimmCLIPModel, exist_ok=True)
AutoModelForZeroShotImageClassification.register(TimmCLIPConfig, TimmCLIPModel, exist_ok=True)
AutoProcessor.register(TimmCLIPConfig, CLIPProcessor, exist_ok=True)

# Imported at its first use: what is registered needs none of it.
_PLACE = {
    "PatchDropping": "towers.patch_dropping",
    "TokenLayout": "towers.layout",
    "check_class_token": "towers.tokens",
    "check_patch_embeds": "towers.patch_embeds",
    "clip_tokenizer": "tokenizer",
    "context_length": "processing",
    "encode_images": "towers.tokens",
    "encode_layers": "towers.patch_embeds",
    "encode_patches": "towers.patch_embeds",
    "fit_processor": "processing",
    "list_models": "presets",
    "load_clip": "loading",
    "resize_images": "resolution",
    "token_layout": "towers.layout",
    "token_shape": "towers.tokens",
}

__all__ = [
    "ReducedTower",
    "ReducedTowerConfig",
    "TimmCLIPConfig",
    "TimmCLIPModel",
    "TimmVisionConfig",
    "TimmVisionModel",
    "inner_tower",
    *sorted(_PLACE),
]


def __getattr__(name: str) -> Any:
    if name in _PLACE:
        return getattr(import_module(f".{_PLACE[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
