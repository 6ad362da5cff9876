"""[`load_tower`]: one call for every image tower, be it a student's, a teacher's, open_clip's or timm's."""

import os

import timm
import torch
from transformers import MODEL_MAPPING, AutoConfig, AutoImageProcessor, AutoModel, BaseImageProcessor, PreTrainedModel

from ..models import list_models, load_clip
from ..models.loading import REQUIRED_METHODS, is_hub_id
from .timm_tower import PREFIX as TIMM
from .timm_tower import load_timm_tower

OPEN_CLIP = "open_clip:"
FORMS = (
    "a model, a preset of list_models(), a folder or Hub id of a dual encoder or a vision transformer, "
    "'open_clip:ARCH/TAG', and 'timm:NAME' with or without '//checkpoint.safetensors'"
)


def load_tower(
    vision_tower: str | os.PathLike | PreTrainedModel, *, trust_remote_code: bool = False
) -> tuple[PreTrainedModel, BaseImageProcessor | None]:
    """
    Loads an image tower, with all its weights and in fp32, and its image processor.

    Args:
        vision_tower (`str`, `os.PathLike` or [`~transformers.PreTrainedModel`]):
            - A model: a dual encoder, whose image tower is taken (the same object), or a vision model.
            - One of [`list_models`], with fresh weights.
            - A folder or Hub id of a dual encoder (CLIP, SigLIP, a student) or of a vision model alone (CLIP, SigLIP,
              DINOv2, ViT, a student's tower). What it is, its `config.json` says, not its name.
            - `open_clip:ARCH/TAG`, `open_clip:ARCH//FILE`: open_clip's own ViT becomes a stock CLIP tower.
            - `timm:NAME`, `timm:NAME//FILE.safetensors` or just the NAME: a model of timm with weights.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether to run code that lies in the folder or Hub repository.

    Returns:
        `tuple`: the tower, and its image processor, or `None` for a model given as an object.

    Raises:
        ValueError: There is no such tower, it has not all its weights, or it is no vision model.
    """
    if isinstance(vision_tower, PreTrainedModel):
        return image_tower(vision_tower, f"{type(vision_tower).__name__}"), None
    name = os.fspath(vision_tower)
    if name in list_models():
        model, processor = load_clip(name)
        return model.vision_model, processor.image_processor
    if name.startswith(OPEN_CLIP):
        from .open_clip_tower import load_open_clip_tower

        return load_open_clip_tower(name)
    if name.startswith(TIMM):
        return load_timm_tower(name)
    if not os.path.isdir(name):
        if timm.is_model(name):
            return load_timm_tower(TIMM + name)
        if not is_hub_id(name):
            raise ValueError(
                f"There is no tower vision_tower={name!r}; allowed are {FORMS}; check the name or the path, for example "
                "build_llava('ViT-T-16', ...)."
            )
    return load_pretrained_tower(name, trust_remote_code)


def load_pretrained_tower(name: str, trust_remote_code: bool) -> tuple[PreTrainedModel, BaseImageProcessor]:
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(cannot_load(name, error)) from error
    # Before the weights are read. Remote code is in no table; it is checked once it is loaded.
    if type(config) in MODEL_MAPPING:
        check_is_vision(MODEL_MAPPING[type(config)], repr(name))
    try:
        model, report = AutoModel.from_pretrained(
            name, dtype=torch.float32, trust_remote_code=trust_remote_code, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(cannot_load(name, error)) from error
    tower = image_tower(model, repr(name))
    prefix = "" if tower is model else "vision_model."
    if missing := sorted(key for key in report["missing_keys"] if key.startswith(prefix)):
        raise ValueError(
            f"The weights of {name!r} lack {len(missing)} tensors of {type(tower).__name__} (such as {missing[0]}), "
            "which would stay random; a tower must have all its weights; save the whole model with "
            "model.save_pretrained and give that folder."
        )
    try:
        # transformers prefers the torchvision backend whatever was saved; its pixels are not those of training.
        image_processor = AutoImageProcessor.from_pretrained(name, backend="pil", trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise ValueError(
            f"{name!r} has a tower but no image processor that can be loaded ({reason}); it must lie beside the model; "
            "call image_processor.save_pretrained(...) into that folder."
        ) from error
    return tower, image_processor


def cannot_load(name: str, error: Exception) -> str:
    reason = str(error).strip().split("\n")[0].rstrip(".")
    where = "The folder" if os.path.isdir(name) else "No folder here, and on the Hugging Face Hub"
    return (
        f"{where} {name!r} cannot be loaded as a tower ({reason}); allowed are {FORMS}; check the name and the network, "
        "or pass trust_remote_code=True if it brings its own code and you trust it."
    )


def image_tower(model: PreTrainedModel, name: str) -> PreTrainedModel:
    """The image tower in a dual encoder, or the vision model itself."""
    check_is_vision(type(model), name)
    return model.vision_model if is_dual_encoder(type(model)) else model


def is_dual_encoder(model_class: type) -> bool:
    return all(hasattr(model_class, method) for method in REQUIRED_METHODS)


def check_is_vision(model_class: type, name: str):
    if not is_dual_encoder(model_class) and getattr(model_class, "main_input_name", "") != "pixel_values":
        raise ValueError(
            f"vision_tower={name} holds a {model_class.__name__}, which is neither a dual encoder nor a vision model; "
            f"allowed are {FORMS}; give the model whose image tower you want."
        )


__all__ = ["load_tower"]
