"""Teacher: the base class of all that a student learns from. It has a precision and a device of its own."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..losses.features import CLIPDims, CLIPFeatures, FeatureRequest
from ..losses.parts.statistics import moments_of
from ..models.precision import upcast
from ..models.towers.checksum import tower_checksum

PREFIX = "teacher_"
TEXT_INPUTS = ("input_ids", "attention_mask", "synthetic_input_ids", "synthetic_attention_mask")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Frozen(nn.Module):
    """
    A model that is asked and never trained: a [`Teacher`] or a reader. It has a precision and a device of its own.

    Args:
        dtype (`torch.dtype`, *optional*):
            Precision of its computation, whatever the student's; by default that of the autocast around it.
        device (`str` or `torch.device`, *optional*):
            Device where it stays; by default the one that the trainer chooses.
    """

    def __init__(self, dtype: torch.dtype | None = None, device: str | torch.device | None = None):
        super().__init__()
        self.own_dtype, self.own_device = dtype, device

    def identity(self) -> dict[str, Any]:
        """Return values in JSON's types that tell this model from another: a run resumes only with the same."""
        return {"weights": tower_checksum(self)[:16], "dtype": str(self.own_dtype)}

    def place(self, device: str | torch.device) -> None:
        """Go to `device`, unless this model has one of its own."""
        self.to(device if self.own_device is None else self.own_device)

    def train(self, mode: bool = True) -> Frozen:
        """Do nothing: the model stays in eval mode whatever the trainer does."""
        return self


class Teacher(Frozen):
    """
    Something to learn from: [`CLIPTeacher`], [`FunctionTeacher`], [`TeacherEnsemble`] or [`TeacherCache`].

    A subclass writes `forward`, with the arguments and the result of [`CLIPTeacher.forward`], and sets `processor` and
    `dims`. One that reads its features from the batch writes `of_batch` instead.

    Args:
        dtype (`torch.dtype`, *optional*):
            Precision of its computation, whatever the student's; by default that of the autocast around it.
        device (`str` or `torch.device`, *optional*):
            Device where it stays; by default the one that the trainer chooses. Features come back to the device of the
            images.

    Attributes:
        processor:
            Image processor, tokenizer (`None` without texts) and context length. `None` for a teacher that sees
            nothing.
        dims ([`~hf_clip_kd.losses.features.CLIPDims`]): Widths of its features.
        request ([`~hf_clip_kd.losses.features.FeatureRequest`]):
            Features that losses read beyond embeddings, see [`Teacher.prepare`].
    """

    processor: Any
    dims: CLIPDims

    def __init__(self, dtype: torch.dtype | None = None, device: str | torch.device | None = None):
        super().__init__(dtype, device)
        self.request = FeatureRequest()

    def prepare(self, request: FeatureRequest) -> None:
        """
        Promise features beyond the embeddings.

        Args:
            request ([`~hf_clip_kd.losses.features.FeatureRequest`]): From [`~hf_clip_kd.losses.requested`].

        Raises:
            ValueError: This teacher cannot give them.
        """
        self.request = request

    def of_batch(self, batch: dict[str, Tensor], prefix: str = PREFIX) -> CLIPFeatures:
        """
        Give the features of a collated batch.

        Args:
            batch (`dict[str, Tensor]`): From a [`CLIPDataCollator`], on any device.
            prefix (`str`): Start of the names of this teacher's inputs. It sees the student's where it has none.
        """
        # Texts come together: a mask of the student's does not fit the teacher's ids.
        texts = prefix if f"{prefix}input_ids" in batch else ""
        inputs = {name: batch[texts + name] for name in TEXT_INPUTS if texts + name in batch}
        return self(pixel_values=batch.get(f"{prefix}pixel_values", batch["pixel_values"]), **inputs)

    def precision(self, device: torch.device):
        """Return the context to compute in."""
        return nullcontext() if self.own_dtype is None else torch.autocast(device.type, enabled=False)


def to_loss_features(features: CLIPFeatures, request: FeatureRequest, device: torch.device) -> CLIPFeatures:
    """Return features in fp32 or better, on `device`, with the moments of the tokens if `request` asks for them."""
    features = features.map(lambda x: upcast(x).to(device))
    if not request.token_moments:
        return features
    layers = {layer: with_moments(found) for layer, found in features.layers.items()}
    return replace(with_moments(features), layers=layers)


def with_moments(features: CLIPFeatures) -> CLIPFeatures:
    """Add mean and mean square of each image's tokens, if there are tokens."""
    if features.image_tokens is None:
        return features
    return replace(features, token_moments=moments_of(features.image_tokens))


def as_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """
    Find a dtype by its name in a recipe.

    Raises:
        ValueError: The name is not one of the floating types.
    """
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in DTYPES:
        raise ValueError(
            f"The teacher's dtype {dtype!r} is unknown. Allowed are {', '.join(DTYPES)}. Write for example "
            "`teacher_dtype: bfloat16`, or leave it out for float32 weights that follow the trainer's precision."
        )
    return DTYPES[dtype]
