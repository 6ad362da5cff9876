"""Base of every distillation loss: its contract, numeric precision, heads and scales."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .features import CLIPDims, CLIPFeatures, FeatureRequest

MAX_LOGIT_SCALE = 100.0  # CLIP trains with this limit. Training becomes unstable beyond it.
MAX_LOG_SCALE = math.log(MAX_LOGIT_SCALE)
INITIAL_LOGIT_SCALE = 1 / 0.07  # CLIP starts with this scale.
# Field of CLIPDims that holds the width of each feature.
WIDTHS = {
    **dict.fromkeys(("image_embeds", "text_embeds", "masked_image_embeds", "synthetic_text_embeds"), "embed_dim"),
    "patch_embeds": "embed_dim",
    **dict.fromkeys(("image_tokens", "class_token"), "token_dim"),
}


# The symbols of every loss's `formula`.
NOTATION = (
    "B pairs; v, u the student's unit-norm images and texts, V, U the teacher's; S = s·v·uᵀ and T = t·V·Uᵀ with the "
    "scales s, t; p, q the student's images and texts after a learned linear layer if the widths differ, else v, u; "
    "x a learned scale; b a bias; h, H the patch tokens of student and teacher; σ the sigmoid. "
    "CE and KL are means over rows. The target of CE is its first argument, or the diagonal if there is one argument."
)


class DistillationLoss(nn.Module):
    """
    Base class of all losses, which map the features of a student and of a teacher to one number.

    A subclass writes [`~DistillationLoss.compute`] and sets the facts below. Its options are keyword-only arguments of
    `__init__`. It sees the features of the whole batch, already gathered from all processes. It asks for more than
    embeddings in [`~DistillationLoss.request`]. Tables and model cards show the facts:

    - `teaches` (`str`): The thing that the student learns, one sentence that starts with its noun.
    - `formula` (`str`): One line in the symbols of `NOTATION`.
    - `paper` (`dict[str, str]`): `title` and arXiv `id` of its source.
    - `reported` (`float`, *optional*): ImageNet top-1 in the CLIP-KD paper, in per cent, with this and the task loss.
      The student is a ViT-T/16, the teacher a ViT-B/16, the data CC3M and CC12M. `None` if there is no such number.
    - `default_weight` (`float`): The weight in a recipe that names no other.

    `needs_others` tells the trainer that the loss compares each pair with others. A batch of one pair teaches it
    nothing.

    Args:
        student ([`CLIPDims`]): Widths of the student's features.
        teacher ([`CLIPDims`], *optional*): Widths of the teacher's features, or `None` without a teacher.

    Raises:
        ValueError: if the loss needs a teacher or a text tower and there is none.
        ValueError: if the loss takes one teacher and there are several.
    """

    needs_teacher: bool = True
    needs_text: bool = True
    takes_ensemble: bool = False
    needs_others: bool = False
    teaches: str = ""
    formula: str = ""
    paper: dict[str, str] = {}
    reported: float | None = None
    default_weight: float = 1.0

    @classmethod
    def request(cls, **options) -> FeatureRequest:
        """Return the features that this loss reads, with these options, beyond embeddings of images and texts."""
        return FeatureRequest()

    def __init__(self, student: CLIPDims, teacher: CLIPDims | None = None):
        super().__init__()
        if self.needs_teacher and teacher is None:
            raise missing_teacher([type(self).__name__])
        if self.needs_teacher and teacher.members and not self.takes_ensemble:
            raise ValueError(
                f"{type(self).__name__} got an ensemble of {len(teacher.members)} as its teacher. It learns from one "
                "teacher. Build a `LossSum`, which makes one loss for each of them, or take "
                "`losses={'reinforced': 1.0}`, which learns from their mean."
            )
        self.student_dims = student
        self.teacher_dims = teacher if self.needs_teacher else None
        for owner, dims in (("student", self.student_dims), ("teacher", self.teacher_dims)):
            if self.needs_text and dims is not None and not dims.has_text:
                raise ValueError(
                    f"The {owner} has no text tower ({dims}). {type(self).__name__} compares images with texts. "
                    f"Choose a dual encoder as {owner}, or leave this loss out of `losses`."
                )

    def forward(self, student: CLIPFeatures, teacher: CLIPFeatures | None = None) -> Tensor:
        """
        Compute the loss.

        Args:
            student ([`CLIPFeatures`]): Features of `batch` image-text pairs, of any floating type.
            teacher ([`CLIPFeatures`], *optional*): The teacher's features of the same pairs. They get no gradient.

        Returns:
            0-dim `Tensor`, computed in fp32, or in fp64 for fp64 features, also under autocast.

        Raises:
            ValueError: if a feature has another width than the loss was built for.
        """
        return self.values(student, teacher).mean()

    def values(self, student: CLIPFeatures, teacher: CLIPFeatures | None = None) -> Tensor:
        """Compute the loss as `forward` does, or, if it is a mean over images, its values of shape `(images,)`."""
        self.check(student, teacher)
        student, teacher = full_precision(student, teacher)
        with torch.autocast(device_type=student.image_embeds.device.type, enabled=False):
            return self.compute(student, teacher)

    def value(
        self,
        student: CLIPFeatures,
        teacher: CLIPFeatures | None = None,
        gather: Callable[[Tensor], Tensor] = lambda rows: rows,
    ) -> Tensor:
        """Compute the loss over the images of all processes. `gather` returns the rows of all, with gradient."""
        values = self.values(student, teacher)
        return (gather(values) if values.ndim else values).mean()

    def check(self, student: CLIPFeatures, teacher: CLIPFeatures | None) -> None:
        """Check that the teacher is there, and that all features have the widths that the loss was built for.

        Raises:
            ValueError: if not.
        """
        if self.needs_teacher and teacher is None:
            raise missing_teacher([type(self).__name__])
        self._check_width("student", student, self.student_dims)
        if self.needs_teacher:
            self._check_width("teacher", teacher, self.teacher_dims)

    def compute(self, student: CLIPFeatures, teacher: CLIPFeatures | None) -> Tensor:
        """
        Compute the formula. The features are in fp32 or fp64, and the teacher's are detached.

        Returns:
            0-dim `Tensor`. A loss that reads tokens returns one value per image, of shape `(images,)`. Tokens belong
            to this process's images only, so the caller takes the mean over all processes.
        """
        raise NotImplementedError

    def weigh(self, members: tuple[float, ...]) -> None:
        """
        Take the weights of an ensemble's members that hold from now on; for losses that read several teachers.

        Args:
            members (`tuple[float, ...]`): Weight of each member, 0 for a member that is not asked.
        """

    def asked(self) -> set[int]:
        """Return the numbers of the ensemble's members that this loss reads now, or 0 for a single teacher."""
        return set(range(max(1, len(self.teacher_dims.members)))) if self.needs_teacher else set()

    def bounded_scales(self) -> list[nn.Parameter]:
        """Return the learned scales with an upper bound, stored as logarithms."""
        return [parameter for name, parameter in self.named_parameters() if name.endswith("logit_scale")]

    @torch.no_grad()
    def clamp_scales_(self, max_log_scale: float = MAX_LOG_SCALE) -> None:
        """Limit [`~DistillationLoss.bounded_scales`], by default to 100 as CLIP does. Call it after each step."""
        for parameter in self.bounded_scales():
            parameter.clamp_(max=max_log_scale)

    def _check_width(self, owner: str, features: CLIPFeatures, dims: CLIPDims) -> None:
        for name, dim in WIDTHS.items():
            values, width = getattr(features, name), getattr(dims, dim)
            if values is not None and width is not None and values.shape[-1] != width:
                raise ValueError(
                    f"The {owner}'s `{name}` are {values.shape[-1]} wide. {type(self).__name__} was built for "
                    f"{owner} features of width {width}. Build it with "
                    f"`{owner}=CLIPDims(..., {dim}={values.shape[-1]})`."
                )
        for layer, values in features.layers.items():
            self._check_width(owner, values, dims.at(layer))


class Projection(nn.Linear):
    """
    `Linear` map, with bias unless told otherwise, from student features to the teacher's width.

    It computes in the type of its input. DeepSpeed and pure bf16 training keep weights in 16 bits, and losses compute
    in fp32.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))


def projection(student: CLIPDims, teacher: CLIPDims) -> nn.Module:
    """Build the [`Projection`] of raw student features `(batch, Ds)` to `(batch, Dt)`, or no map if `Ds == Dt`."""
    same = student.embed_dim == teacher.embed_dim
    return nn.Identity() if same else Projection(student.embed_dim, teacher.embed_dim)


def full_precision(student: CLIPFeatures, teacher: CLIPFeatures | None) -> tuple[CLIPFeatures, CLIPFeatures | None]:
    """
    Cast features to fp32, or to fp64 if the student's are fp64, and detach the teacher's.

    Features that need no change are returned as the same object, with their cached unit-norm forms.
    """
    dtype = reduce(torch.promote_types, (x.dtype for x in student.tensors().values()), torch.float32)
    student = student.map(lambda x: x.to(dtype))
    return student, None if teacher is None else teacher.map(
        lambda x: (x.detach() if x.requires_grad else x).to(dtype)
    )


def inverse_temperature(features: CLIPFeatures, fixed: float | None, owner: str, option: str) -> Tensor:
    """
    Return the factor on a model's cosine similarities: `fixed` if it is given, else the model's own.

    Args:
        features ([`CLIPFeatures`]): Features of the student or of a teacher.
        fixed (`float`, *optional*): Option of the loss.
        owner (`str`), option (`str`): `"student"` or `"teacher"`, and the option's name, for the error.

    Raises:
        ValueError: if there is neither.
    """
    if fixed is not None:
        return features.image_embeds.new_tensor(fixed)
    if features.logit_scale is None:
        raise ValueError(
            f"The {owner} has no `logit_scale`. The loss compares its similarities and needs a scale. Pass one as an "
            f"option of the loss, for example `losses={{'crd': {{'{option}': 100.0}}}}`."
        )
    return features.logit_scale


def serving(cls: type[DistillationLoss], teacher: CLIPDims) -> list[int]:
    """Return the indices of the members of an ensemble that have the features a loss compares."""
    return [index for index, member in enumerate(teacher.members) if member.has_text or not cls.needs_text]


def missing_teacher(names: list[str]) -> ValueError:
    """Return the error for losses, named as the user wrote them, that need a teacher."""
    return ValueError(
        f"The losses {names} need a teacher, and none was given. Pass `teacher_model=...` "
        "(recipe: `teacher_model_name_or_path`), or train without a teacher: `losses={'clip': 1.0}`."
    )
