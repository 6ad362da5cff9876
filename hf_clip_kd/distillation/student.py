"""Students as a trainer takes them: dual encoders that hand over their scale and bias."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from peft import PeftModel
from torch import Tensor, nn

from ..models.loading import REQUIRED_METHODS

LEARNED = "_learned_scales"  # names of the buffers that an earlier trainer left in the place of learned parameters


def check_student(student: object) -> None:
    """
    Check that a model can be trained as a student.

    Args:
        student: A dual encoder, such as [`~transformers.CLIPModel`]. It needs `get_image_features`,
            `get_text_features`, a joint width in its config, and `logit_scale`. That is the logarithm of the factor on
            similarities, a tensor with a single number. `logit_bias` is such a tensor, too, or missing.

    Raises:
        ValueError: The model lacks any of these, or `peft` has wrapped it. Or it has adapters on weights that were
            never saved.
    """
    if isinstance(student, PeftModel):
        raise ValueError(
            "`model` is a `PeftModel`, whose folder would be no dual encoder. A student with adapters is a plain "
            "model. Call `student.add_adapter(LoraConfig(...))` on the model itself, and pass that."
        )
    if getattr(student, "_hf_peft_config_loaded", False) and not student.name_or_path:
        raise ValueError(
            "`model` has adapters on fresh weights, and a folder with adapters names the weights below them. Those "
            "must lie in a folder or on the Hub. Save the student, and add the adapters to what `load_clip` loads."
        )
    if (fault := next(_faults(student), None)) is not None:
        raise ValueError(
            f"`model` is no student: {fault}. A student is a dual encoder with {', '.join(REQUIRED_METHODS)} and "
            "`logit_scale`, a tensor of one number whose exponential multiplies the similarities. Take a CLIP or "
            "SigLIP model, for example `load_clip('ViT-T-16')[0]`."
        )


def _faults(student: object) -> Iterator[str]:
    kind, config = type(student).__name__, getattr(student, "config", None)
    for method in REQUIRED_METHODS:
        if not callable(getattr(student, method, None)):
            yield f"{kind} has no `{method}`"
    if not hasattr(config, "projection_dim") and not hasattr(getattr(config, "text_config", None), "projection_size"):
        yield f"the config of {kind} names no `projection_dim`"
    if not hasattr(student, "logit_scale"):
        yield f"{kind} has no `logit_scale`" + (" but a `temperature`" if hasattr(student, "temperature") else "")
    for name in ("logit_scale", "logit_bias"):
        value = getattr(student, name, None)
        if not isinstance(value, Tensor | None) or (isinstance(value, Tensor) and value.numel() != 1):
            shown = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
            yield f"`{name}` of {kind} is {shown}"


def check_embeds(image_embeds: Tensor, text_embeds: Tensor) -> None:
    """
    Check that a student gives an embedding of each image and text, of the same width.

    Raises:
        ValueError: It gives tokens (FLAVA), or embeddings of two spaces.
    """
    if not image_embeds.ndim == text_embeds.ndim == 2 or image_embeds.shape[1] != text_embeds.shape[1]:
        raise ValueError(
            f"The student's image features have the shape {tuple(image_embeds.shape)}, its text features "
            f"{tuple(text_embeds.shape)}. A dual encoder gives an embedding of each, `(batch, width)`. Take a CLIP or "
            "SigLIP model."
        )


def take_over(student: nn.Module, name: str) -> nn.Parameter:
    """
    Take a scale or bias out of a student. A buffer of the same name and shape takes its place.

    Args:
        student (`nn.Module`): A model that [`check_student`] accepts.
        name (`str`): `logit_scale` or `logit_bias`.

    Returns:
        `nn.Parameter` of shape `(1,)`, in float32 at least. It learns if the student's own did. A buffer does not,
        unless an earlier trainer has put it there for a parameter that did.
    """
    value, learned = getattr(student, name), getattr(student, LEARNED, set())
    learns = value.requires_grad or name in learned
    delattr(student, name)
    student.register_buffer(name, value.detach().clone())
    setattr(student, LEARNED, learned | {name} if learns else learned)
    value = value.detach().reshape(1).to(torch.promote_types(value.dtype, torch.float32), copy=True)
    return nn.Parameter(value, requires_grad=learns)
