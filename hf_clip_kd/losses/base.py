"""What every distillation loss has in common: its contract, its numeric precision, its heads and scales."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..features import CLIPDims, CLIPFeatures

MAX_LOGIT_SCALE = 100.0  # the limit CLIP trains with: beyond it training becomes unstable
INITIAL_LOGIT_SCALE = 1 / 0.07  # where CLIP starts


class DistillationLoss(nn.Module):
    """
    Maps the features of a student and of a teacher to one number; the base class of all losses.

    A subclass writes [`~DistillationLoss.compute`] and sets `paper`. Its options are keyword-only arguments of
    `__init__`. It sees the features of the whole batch, already gathered from all processes.

    Args:
        student ([`CLIPDims`]): Widths of the student's features.
        teacher ([`CLIPDims`], *optional*): Widths of the teacher's features; `None` where there is no teacher.

    Raises:
        ValueError: If the loss needs a teacher or a text tower that is not there.
    """

    needs_teacher: bool = True
    needs_text: bool = True
    paper: dict[str, str] = {}

    def __init__(self, student: CLIPDims, teacher: CLIPDims | None = None):
        super().__init__()
        if self.needs_teacher and teacher is None:
            raise missing_teacher([type(self).__name__])
        self.student_dims = student
        self.teacher_dims = teacher if self.needs_teacher else None
        for owner, dims in (("student", self.student_dims), ("teacher", self.teacher_dims)):
            if self.needs_text and dims is not None and not dims.has_text:
                raise ValueError(
                    f"{type(self).__name__} compares images with texts, and the {owner} has no text tower ({dims}). "
                    f"Choose a dual encoder as {owner}, or leave this loss out of `losses`."
                )

    def forward(self, student: CLIPFeatures, teacher: CLIPFeatures | None = None) -> Tensor:
        """
        Args:
            student ([`CLIPFeatures`]): Features of `batch` image-text pairs, of any floating type.
            teacher ([`CLIPFeatures`], *optional*): The teacher's features of the same pairs; they get no gradient.

        Returns:
            0-dim `Tensor`, computed in fp32, or in fp64 for fp64 features, also under autocast.

        Raises:
            ValueError: If a feature has another width than the loss was built for.
        """
        if self.needs_teacher and teacher is None:
            raise missing_teacher([type(self).__name__])
        self._check_width("student", student, self.student_dims)
        if self.needs_teacher:
            self._check_width("teacher", teacher, self.teacher_dims)
        student, teacher = full_precision(student, teacher)
        with torch.autocast(device_type=student.image_embeds.device.type, enabled=False):
            return self.compute(student, teacher)

    def compute(self, student: CLIPFeatures, teacher: CLIPFeatures | None) -> Tensor:
        """The formula: features in fp32 or fp64, the teacher's detached, to a 0-dim `Tensor`."""
        raise NotImplementedError

    @torch.no_grad()
    def clamp_scales_(self) -> None:
        """Limits the learned scales, stored as logarithms, to a factor of at most 100; call it after each step."""
        for name, parameter in self.named_parameters():
            if name.endswith("logit_scale"):
                parameter.clamp_(max=math.log(MAX_LOGIT_SCALE))

    def _check_width(self, owner: str, features: CLIPFeatures, dims: CLIPDims) -> None:
        for name in ("image_embeds", "text_embeds"):
            embeds = getattr(features, name)
            if embeds is not None and embeds.shape[-1] != dims.embed_dim:
                raise ValueError(
                    f"The {owner}'s `{name}` are {embeds.shape[-1]} wide, but {type(self).__name__} was built for "
                    f"{owner} features of width {dims.embed_dim}. Build it with "
                    f"`{owner}=CLIPDims(embed_dim={embeds.shape[-1]})`."
                )


class Projection(nn.Linear):
    """
    Maps student features to the teacher's width: `Linear` with bias that computes in the type of its input.

    Under DeepSpeed and pure bf16 training the weights are halves while losses compute in fp32.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


def projection(student: CLIPDims, teacher: CLIPDims) -> nn.Module:
    """A [`Projection`] of raw student features `(batch, Ds)` to `(batch, Dt)`; nothing at all where `Ds == Dt`."""
    if student.embed_dim == teacher.embed_dim:
        return nn.Identity()
    return Projection(student.embed_dim, teacher.embed_dim)


def full_precision(student: CLIPFeatures, teacher: CLIPFeatures | None) -> tuple[CLIPFeatures, CLIPFeatures | None]:
    """
    The features as losses compute with them: fp32, or fp64 if the student's are, and the teacher's without gradient.

    Features that already are so come back as the same object, and with it their cached unit-norm forms.
    """
    dtype = reduce(torch.promote_types, (x.dtype for x in _tensors(student).values()), torch.float32)
    return _convert(student, dtype), None if teacher is None else _convert(teacher, dtype, detach=True)


def contrastive(logits: Tensor) -> Tensor:
    """Mean cross-entropy of each row of the `(batch, batch)` logits with its own index as the class."""
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def missing_teacher(names: list[str]) -> ValueError:
    """The error for losses, named as the user wrote them, that cannot be computed without a teacher."""
    return ValueError(
        f"The losses {names} need a teacher, and none was given. Pass `teacher_model=...` "
        "(recipe: `teacher_model_name_or_path`), or train without one: `losses={'clip': 1.0}`."
    )


def _tensors(features: CLIPFeatures) -> dict[str, Tensor]:
    values = {field.name: getattr(features, field.name) for field in fields(features)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def _convert(features: CLIPFeatures, dtype: torch.dtype, detach: bool = False) -> CLIPFeatures:
    old = _tensors(features)
    new = {name: (x.detach() if detach and x.requires_grad else x).to(dtype) for name, x in old.items()}
    return features if all(new[name] is old[name] for name in old) else replace(features, **new)
