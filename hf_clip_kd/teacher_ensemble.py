"""TeacherEnsemble: several teachers as one, and [`load_teacher`], which makes any teacher of what a recipe says."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from .features import CLIPDims, CLIPFeatures, FeatureRequest
from .teacher import CLIPTeacher
from .teacher_base import PREFIX, Teacher, as_dtype

OPTIONS = ("name", "weight", "logit_scale", "dtype", "device", "compile")


class TeacherEnsemble(Teacher):
    """
    Several teachers, each with its own view of the same crop and caption.

    Every loss learns from each teacher that can serve it, through heads of its own, balanced so that none dominates (see
    [`~hf_clip_kd.losses.EnsembleLoss`]).

    Args:
        members (`Sequence[Teacher]`): The teachers.
        weights (`Sequence[float]`, *optional*): What each counts; by default all the same.

    Attributes:
        processor (`dict[str, TeacherProcessor]`):
            The processor of each member by what the names of its inputs begin with in a batch, `teacher_0_` and so on.

    Raises:
        ValueError: There are no members, or other than one positive weight for each.
    """

    def __init__(self, members: Sequence[Teacher], weights: Sequence[float] | None = None):
        super().__init__()
        weights = [1.0] * len(members) if weights is None else list(weights)
        if not members or len(weights) != len(members) or not all(0 < weight < math.inf for weight in weights):
            raise ValueError(
                f"The ensemble has {len(members)} teachers and the weights {weights}; it needs at least one teacher and a "
                "finite weight above 0 for each; write for example load_teacher([{'name': ..., 'weight': 2}, ...])."
            )
        self.members = nn.ModuleList(members)
        self.weights = [float(weight) for weight in weights]
        self.processor = {f"{PREFIX}{index}_": member.processor for index, member in enumerate(members)}

    @property
    def dims(self) -> CLIPDims:
        """Widths and weight of each member; the ensemble's own are those of the first."""
        members = [
            replace(member.dims, weight=weight) for member, weight in zip(self.members, self.weights, strict=True)
        ]
        has_text = any(member.has_text for member in members)
        return replace(members[0], has_text=has_text, weight=1.0, members=tuple(members))

    def prepare(self, request: FeatureRequest) -> None:
        """As [`CLIPTeacher.prepare`], for each member."""
        super().prepare(request)
        for member in self.members:
            member.prepare(request)

    def identity(self) -> dict[str, Any]:
        """As [`Teacher.identity`], of all members, with their weights."""
        return super().identity() | {"member_weights": self.weights}

    def of_batch(self, batch: dict[str, Tensor], prefix: str = PREFIX) -> CLIPFeatures:
        """The features of a collated batch; those of the teachers are its `members`, in order."""
        views = zip(self.processor, self.members, strict=True)
        return CLIPFeatures(members=tuple(member.of_batch(batch, view) for view, member in views))

    def place(self, device: str | torch.device) -> None:
        """Each member goes to `device`, unless it was given one of its own."""
        for member in self.members:
            member.place(device)


def load_teacher(
    teacher: str | os.PathLike | nn.Module | Mapping[str, Any] | Sequence[Any],
    *,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    compile: bool = False,
    trust_remote_code: bool = False,
) -> Teacher:
    """
    Any teacher.

    Args:
        teacher (`str`, `os.PathLike`, `nn.Module`, `Mapping` or a list of these):
            What [`CLIPTeacher`] takes, or a [`Teacher`], which stays as it is. A mapping has it as `name`, and any of
            `logit_scale`, `dtype`, `device` and `compile`, which go before those given here. A list is an ensemble, of
            which each may also have a `weight`.
        dtype, device, compile, trust_remote_code (*optional*): As in [`CLIPTeacher`]; a dtype may be a name.

    Raises:
        ValueError: As [`CLIPTeacher`] and [`TeacherEnsemble`] do, or a mapping has no `name` or unknown keys.

    Example:

    ```python
    load_teacher(["openai/clip-vit-base-patch16", {"name": "timm:vit_small_patch14_dinov2.lvd142m", "weight": 0.5}])
    ```
    """
    options = {"dtype": dtype, "device": device, "compile": compile, "trust_remote_code": trust_remote_code}
    if isinstance(teacher, Sequence) and not isinstance(teacher, str):
        weights = [one.get("weight", 1.0) if isinstance(one, Mapping) else 1.0 for one in teacher]
        return TeacherEnsemble([_load_one(one, options) for one in teacher], weights)
    return _load_one(teacher, options)


def _load_one(teacher, options: dict[str, Any]) -> Teacher:
    if isinstance(teacher, Teacher):
        return teacher
    if isinstance(teacher, Mapping):
        unknown = sorted(set(teacher) - set(OPTIONS))
        if unknown or "name" not in teacher:
            raise ValueError(
                f"The teacher {dict(teacher)!r} {f'has the unknown keys {unknown}' if unknown else 'has no name'}; allowed "
                f"are {', '.join(OPTIONS)}; write for example {{'name': 'open_clip:ViT-B-16/openai', 'weight': 2}}."
            )
        own = {key: value for key, value in teacher.items() if key not in ("name", "weight")}
        teacher, options = teacher["name"], options | own
        if isinstance(teacher, Teacher):
            if own:
                raise ValueError(
                    f"The teacher {type(teacher).__name__} is made already and was given {own}; beside a ready teacher only "
                    "a `weight` may stand; give the others to CLIPTeacher or FunctionTeacher where it is made."
                )
            return teacher
    return CLIPTeacher(teacher, **options | {"dtype": as_dtype(options["dtype"])})


__all__ = ["TeacherEnsemble", "load_teacher"]
