"""Towers from open_clip: its ViT as a stock [`~transformers.CLIPVisionModel`], a timm trunk as [`TimmVisionModel`].

Other modules import this one only when such a tower is asked for, since open_clip takes seconds.
"""

from open_clip.timm_model import TimmModel
from transformers import BaseImageProcessor, PreTrainedModel

from ..towers.timm_tower import same_features, tower_of_trunk
from .conversion import convert_image_tower
from .loading import OpenClipImageProcessor, load_open_clip


def load_open_clip_tower(name: str) -> tuple[PreTrainedModel, BaseImageProcessor]:
    """
    Load the image tower of an open_clip model, in fp32, and its preprocessing.

    Args:
        name (`str`): The name as a teacher has it: `open_clip:ARCH/TAG`, `open_clip:ARCH//FILE`,
            `open_clip:hf-hub:...`, `open_clip:local-dir:...`.

    Raises:
        ValueError: There is no such model, or no class of transformers or timm holds its tower exactly.
    """
    # A tokenizer is not needed, and any object in its place ends the search for it.
    model, _ = load_open_clip(name, tokenizer="none")
    visual = model.visual
    image_processor = OpenClipImageProcessor.from_preprocess_cfg(visual.preprocess_cfg)
    if isinstance(visual, TimmModel):
        return convert_timm(visual, name), image_processor
    try:
        return convert_image_tower(visual), image_processor
    except ValueError as error:
        raise not_convertible(name, str(error)) from error


def not_convertible(name: str, reason: str) -> ValueError:
    return ValueError(
        f"The tower of {name!r} cannot be put into a LLaVA: {reason}. Allowed are open_clip's ViTs with a class "
        "token, a norm before the first block and plain attention, and its timm towers. Take such a model, for "
        "example 'open_clip:ViT-B-16/openai'."
    )


def convert_timm(visual: TimmModel, name: str) -> PreTrainedModel:
    trunk, image_size = visual.trunk, visual.image_size[0]
    architecture, weights = trunk.pretrained_cfg["architecture"], trunk.state_dict()
    try:
        tower = tower_of_trunk(architecture, weights, image_size, origin=name)
    except ValueError:
        # open_clip may have replaced the pooling, and with it weights.
        pooling = {"global_pool": trunk.global_pool}
        tower = tower_of_trunk(architecture, weights, image_size, origin=name, model_args=pooling)
    if not same_features(trunk, tower.trunk, image_size):
        raise not_convertible(name, f"timm builds {architecture} differently")
    return tower


__all__ = ["load_open_clip_tower"]
