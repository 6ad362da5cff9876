"""What all teachers have in common: frozen, in eval mode, with a precision and a device of their own."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..losses.features import CLIPDims, CLIPFeatures, FeatureRequest
from ..models.towers.checksum import tower_checksum

PREFIX = "teacher_"
TEXT_INPUTS = ("input_ids", "attention_mask", "synthetic_input_ids", "synthetic_attention_mask")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Teacher(nn.Module):
    """
    Something to learn from; the base class of [`CLIPTeacher`], [`FunctionTeacher`] and [`TeacherEnsemble`].

    A subclass writes `forward`, with the arguments and the result of [`CLIPTeacher.forward`], and sets `processor` and `dims`.

    Args:
        dtype (`torch.dtype`, *optional*):
            The precision it computes in, whatever the student's; without one, that of the autocast around it.
        device (`str` or `torch.device`, *optional*):
            Where it stays; without one it goes where the trainer puts it. Features come back to the device of the images.

    Attributes:
        processor: What it sees: an image processor, a tokenizer (`None` without texts) and a context length.
        dims ([`~hf_clip_kd.losses.features.CLIPDims`]): Its widths.
        request ([`~hf_clip_kd.losses.features.FeatureRequest`]): What losses read beyond embeddings, see [`Teacher.prepare`].
    """

    processor: Any
    dims: CLIPDims

    def __init__(self, dtype: torch.dtype | None = None, device: str | torch.device | None = None):
        super().__init__()
        self.own_dtype, self.own_device = dtype, device
        self.request = FeatureRequest()

    def prepare(self, request: FeatureRequest) -> None:
        """
        Also give what losses ask for beyond the embeddings.

        Raises:
            ValueError: If this teacher cannot give it.
        """
        self.request = request

    def of_batch(self, batch: dict[str, Tensor], prefix: str = PREFIX) -> CLIPFeatures:
        """
        The features of a collated batch.

        Args:
            batch (`dict[str, Tensor]`): From a [`CLIPDataCollator`], on any device.
            prefix (`str`): What the names of this teacher's inputs begin with; where there are none, it sees the student's.
        """
        # Texts come together: a mask of the student's does not fit the teacher's ids.
        texts = prefix if f"{prefix}input_ids" in batch else ""
        inputs = {name: batch[texts + name] for name in TEXT_INPUTS if texts + name in batch}
        return self(pixel_values=batch.get(f"{prefix}pixel_values", batch["pixel_values"]), **inputs)

    def identity(self) -> dict[str, Any]:
        """What tells this teacher from another, in JSON's types: a run is resumed only with the same."""
        return {"weights": tower_checksum(self)[:16], "dtype": str(self.own_dtype)}

    def place(self, device: str | torch.device) -> None:
        """Go to `device`, unless this teacher was given one of its own."""
        self.to(device if self.own_device is None else self.own_device)

    def train(self, mode: bool = True) -> Teacher:
        """Does nothing: a teacher stays in eval mode whatever the trainer does."""
        return self

    def precision(self, device: torch.device):
        """The context to compute in."""
        return nullcontext() if self.own_dtype is None else torch.autocast(device.type, enabled=False)


def finished(features: CLIPFeatures, request: FeatureRequest, device: torch.device) -> CLIPFeatures:
    """Features in fp32 or better, on `device`, with the moments of the tokens if they were asked for."""
    features = features.map(lambda x: full(x).to(device))
    if request.token_moments and features.image_tokens is not None:
        tokens = features.image_tokens
        moments = torch.stack([tokens.mean(dim=1), tokens.square().mean(dim=1)], dim=1)
        features = replace(features, token_moments=moments)
    return features


def full(features: Tensor) -> Tensor:
    """Half-precision features in float32: losses compute in float32 or better."""
    return features.float() if features.dtype in (torch.float16, torch.bfloat16) else features


def as_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """A dtype by its name in a recipe; `ValueError` for others than the floating ones."""
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in DTYPES:
        raise ValueError(
            f"The teacher's dtype {dtype!r} is unknown; allowed are {', '.join(DTYPES)}; write for example "
            "`teacher_dtype: bfloat16`, or leave it out for float32 weights that follow the trainer's precision."
        )
    return DTYPES[dtype]
