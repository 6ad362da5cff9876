"""[`load_tower`]: one call for every image tower, be it a student's, a teacher's, open_clip's or timm's."""

import os

import timm
from transformers import BaseImageProcessor, PreTrainedModel

from . import list_models, load_clip
from .loading import is_hub_id
from .pretrained_tower import FORMS, image_tower, load_pretrained_tower
from .towers.timm_tower import PREFIX as TIMM
from .towers.timm_tower import load_timm_tower

OPEN_CLIP = "open_clip:"


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
        from .open_clip.tower import load_open_clip_tower

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


__all__ = ["load_tower"]
