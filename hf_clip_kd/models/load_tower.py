"""[`load_tower`]: one call for every image tower, be it a student's, a teacher's, open_clip's or timm's."""

import os

import timm
from transformers import BaseImageProcessor, PreTrainedModel

from .loading import load_clip
from .names import parse_name
from .pretrained_tower import FORMS, image_tower, load_pretrained_tower
from .towers.timm_tower import load_timm_tower


def load_tower(
    vision_tower: str | os.PathLike | PreTrainedModel, *, trust_remote_code: bool = False
) -> tuple[PreTrainedModel, BaseImageProcessor | None]:
    """
    Load an image tower, with all its weights and in fp32, and its image processor.

    Args:
        vision_tower (`str`, `os.PathLike` or [`~transformers.PreTrainedModel`]):
            - A model: a dual encoder, whose image tower is taken (the same object), or a vision model.
            - One of [`list_models`], with fresh weights.
            - A folder or Hub id of a dual encoder (CLIP, SigLIP, a student) or of a vision model alone (CLIP, SigLIP,
              DINOv2, ViT, a student's tower). Its `config.json` decides, not its name.
            - A folder or Hub id of a LLaVA or another vision-language model, whose tower may have been tuned in it.
            - `open_clip:ARCH/TAG`, `open_clip:ARCH//FILE`: open_clip's own ViT becomes a stock CLIP tower.
            - `timm:NAME`, `timm:NAME//FILE.safetensors` or just the NAME: a model of timm with weights.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Allow code that lies in the folder or Hub repository to run.

    Returns:
        `tuple`: the tower, and its image processor, or `None` for a model given as an object.

    Raises:
        ValueError: There is no such tower, it has not all its weights, or it is no vision model.
    """
    if isinstance(vision_tower, PreTrainedModel):
        return image_tower(vision_tower, type(vision_tower).__name__), None
    name = os.fspath(vision_tower)
    kind = parse_name(name).kind
    if kind == "preset":
        model, processor = load_clip(name)
        return model.vision_model, processor.image_processor
    if kind in LOADERS:
        return LOADERS[kind](name)
    if kind in ("folder", "hub"):
        return load_pretrained_tower(name, trust_remote_code)
    if timm.is_model(name):
        return load_timm_tower(f"timm:{name}")
    raise ValueError(
        f"There is no tower vision_tower={name!r}. Allowed are {FORMS}. Check the name or the path, for example "
        "build_llava('ViT-T-16', ...)."
    )


def load_open_clip_tower(name: str) -> tuple[PreTrainedModel, BaseImageProcessor]:
    from .open_clip import tower  # open_clip takes seconds to import.

    return tower.load_open_clip_tower(name)


# Prefix of a name -> its loader.
LOADERS = {"open_clip": load_open_clip_tower, "timm": load_timm_tower}

__all__ = ["load_tower"]
