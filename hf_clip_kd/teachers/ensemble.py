"""TeacherEnsemble: several teachers as one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..losses.features import CLIPDims, CLIPFeatures, FeatureRequest
from ..losses.schedule import read_weight
from .base import PREFIX, Teacher


class TeacherEnsemble(Teacher):
    """
    Several teachers, each with its own view of the same crop and caption.

    Every loss learns from each teacher that can serve it, through heads of its own, balanced so that none dominates
    (see [`~hf_clip_kd.losses.EnsembleLoss`]).

    Args:
        members (`Sequence[Teacher]`): The teachers.
        weights (`Sequence[float | dict]`, *optional*):
            Weight of each in a loss; by default all the same. It may change at shares of the steps, `{0: 1, 0.5: 0}`.

    Attributes:
        processor (`dict[str, TeacherProcessor]`):
            The processor of each member by the prefix of its inputs in a batch, `teacher_0_` and so on.

    Raises:
        ValueError: There are no members, or not one positive weight for each, or a member is a [`TeacherCache`].
    """

    def __init__(self, members: Sequence[Teacher], weights: Sequence[float] | None = None):
        super().__init__()
        weights = [1.0] * len(members) if weights is None else list(weights)
        fix = "Write for example load_teacher([{'name': ..., 'weight': 2}, ...])."
        schedules = [read_weight(weight, f"teacher {i} of the ensemble", fix) for i, weight in enumerate(weights)]
        if not members or len(weights) != len(members) or not all(schedule.peak > 0 for schedule in schedules):
            raise ValueError(
                f"The ensemble has {len(members)} teachers and the weights {weights}. It needs at least one teacher "
                f"and for each a weight that is above 0 at some time. {fix}"
            )
        if blind := [type(member).__name__ for member in members if member.processor is None]:
            raise ValueError(
                f"The ensemble has the member {blind[0]}, which sees no images. Allowed are teachers with a "
                "processor. Write one cache of the whole ensemble, and give that alone: TeacherCache(folder, "
                "weights=[...])."
            )
        self.members = nn.ModuleList(members)
        self.weights = [schedule.plain for schedule in schedules]
        self.processor = {f"{PREFIX}{index}_": member.processor for index, member in enumerate(members)}

    @property
    def dims(self) -> CLIPDims:
        """Widths and weight of each member; the ensemble's own are those of the first."""
        return joint_dims([member.dims for member in self.members], self.weights)

    def prepare(self, request: FeatureRequest) -> None:
        """Promise features beyond the embeddings, see [`CLIPTeacher.prepare`], for each member."""
        super().prepare(request)
        for member in self.members:
            member.prepare(request)

    def identity(self) -> dict[str, Any]:
        """Return the identity of all members, see [`Teacher.identity`], with their weights."""
        return super().identity() | {"member_weights": self.weights}

    def of_batch(
        self, batch: dict[str, Tensor], prefix: str = PREFIX, members: Collection[int] | None = None
    ) -> CLIPFeatures:
        """
        Give the features of a collated batch; those of the teachers are its `members`, in order.

        Args:
            members (`Collection[int]`, *optional*): Numbers of the teachers to ask; by default all. The features of
                the others are empty.
        """
        views = enumerate(zip(self.processor, self.members, strict=True))
        return CLIPFeatures(
            members=tuple(
                member.of_batch(batch, view) if members is None or number in members else CLIPFeatures()
                for number, (view, member) in views
            )
        )

    def place(self, device: str | torch.device) -> None:
        """Send each member to `device`, unless it has one of its own."""
        for member in self.members:
            member.place(device)


def joint_dims(members: Sequence[CLIPDims], weights: Sequence[float | dict]) -> CLIPDims:
    """Join the widths of several teachers: those of the first, with all of them as its `members`."""
    members = tuple(replace(dims, weight=weight) for dims, weight in zip(members, weights, strict=True))
    has_text = any(dims.has_text for dims in members)
    return replace(members[0], has_text=has_text, weight=1.0, members=members)


__all__ = ["TeacherEnsemble", "joint_dims"]
