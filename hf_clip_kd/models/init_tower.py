"""Start the image tower of a student, or of a teacher under training, from weights that a tower already has."""

from __future__ import annotations

import logging

import torch
from torch import nn
from transformers import PreTrainedModel, ProcessorMixin

from .eval_mode import eval_mode
from .load_tower import load_tower

logger = logging.getLogger(__name__)

# Share of its norm by which a pooled feature may differ. Two kernels of attention round less than that.
TOLERANCE = 1e-3


def init_image_tower(
    student: PreTrainedModel, processor: ProcessorMixin, vision_tower: str, *, trust_remote_code: bool = False
) -> None:
    """
    Give the image tower of a dual encoder the weights of a tower of its own kind and size.

    The projection and the text tower keep their weights. The mean and the std of the pixels become those of the
    tower's own processor. A convnet may see other image sizes than its weights did. A transformer may not, since its
    positions belong to the size.

    Args:
        student ([`~transformers.PreTrainedModel`]): From [`load_clip`]; its image tower is changed in place.
        processor ([`~transformers.ProcessorMixin`]): Its processor, changed in place.
        vision_tower (`str`): A name as [`load_tower`] takes it, such as `timm:ARCHITECTURE//FILE.safetensors`.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Allow code that lies in the folder or Hub repository to run.

    Raises:
        ValueError: There is no such tower. It is not of the student's kind and size, or computes something else.
    """
    own, _ = load_tower(student)
    given, pixels = load_tower(vision_tower, trust_remote_code=trust_remote_code)
    theirs, mine = given.state_dict(), own.state_dict()
    wrong = sorted(set(mine) ^ set(theirs)) or [name for name in mine if mine[name].shape != theirs[name].shape]
    if wrong:
        raise ValueError(
            f"init_image_tower={vision_tower!r} does not fit the image tower of the student: {len(wrong)} tensors are "
            f"missing, left over or of another shape (such as {wrong[0]}). It must have all tensors of this tower and "
            "no others. Take the tower that the student's JSON describes. A transformer needs its image size, too."
        )
    own.load_state_dict(theirs)
    image_processor = processor.image_processor
    image_processor.image_mean, image_processor.image_std = list(pixels.image_mean), list(pixels.image_std)
    if not computes_the_same(own, given, student.config.vision_config.image_size):
        raise ValueError(
            f"init_image_tower={vision_tower!r} has all tensors of the student's image tower, which computes "
            "something else with them. Activation, norms, padding and a transformer's image size must be the same. "
            "Correct `vision_config` in the student's JSON, such as its `hidden_act` or `architecture`."
        )
    logger.info("The student's image tower starts from %s, %d tensors.", vision_tower, len(theirs))


@torch.no_grad()
def computes_the_same(first: nn.Module, second: nn.Module, image_size: int) -> bool:
    """Tell if two image towers pool the same feature of an image of noise, up to rounding."""
    image = torch.randn(1, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    with eval_mode(first), eval_mode(second):
        found = first(pixel_values=image.to(first.dtype)).pooler_output.float()
        try:
            expected = second(pixel_values=image).pooler_output
        except AssertionError:  # A transformer of timm on images of another size.
            return False
    return bool((found - expected).norm() <= TOLERANCE * expected.norm())


__all__ = ["init_image_tower"]
