"""TeacherEnsemble: several teachers as one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..losses.features import CLIPDims, CLIPFeatures, FeatureRequest
from .base import PREFIX, Teacher


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


__all__ = ["TeacherEnsemble"]
