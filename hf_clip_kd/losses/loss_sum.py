"""Weighted sum of several losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .base import full_precision, missing_teacher
from .ensemble import build, check_teacher
from .features import CLIPDims, CLIPFeatures
from .similarity import SimilarityLoss, evaluate
from .specification import specification


class LossSum(nn.Module):
    """
    Weighted sum of several losses, with their heads and learned scales.

    Args:
        losses (`str` or `dict[str, float | dict]`):
            Weight of each loss: `{"clip": 1, "fd": {"weight": 4, "reduction": "sum"}}`. A key is a name in `LOSSES`,
            or the dotted path of your own [`DistillationLoss`]. A value is a weight, or a `dict` of `weight` and
            options. A missing weight is the loss's default. A loss of weight 0 is left out. A name in `OBJECTIVES`,
            such as `"clip_kd"`, stands for several losses, alone or as a key.
        student ([`CLIPDims`]): Widths of the student's features.
        teacher ([`CLIPDims`], *optional*):
            Widths of the teacher's features, or `None` without a teacher. With `members`, every loss learns from each
            member that can serve it, see [`EnsembleLoss`].

    Raises:
        ValueError: if a loss or option is unknown, or no loss is left.
        ValueError: if a weight is not a finite number of at least 0.
        ValueError: if the teacher of a loss is missing or cannot serve it.
    """

    def __init__(
        self, losses: str | Mapping[str, float | Mapping[str, Any]], student: CLIPDims, teacher: CLIPDims | None = None
    ):
        super().__init__()
        terms = specification(losses)
        orphans = [name for name, (cls, _, _) in terms.items() if cls.needs_teacher]
        if orphans and teacher is None:
            raise missing_teacher(orphans)
        if teacher is not None:
            check_teacher({name: cls for name, (cls, _, _) in terms.items()}, teacher)
        self.weights = {name: weight for name, (_, weight, _) in terms.items()}
        self.terms = nn.ModuleDict(
            {module_name(name): build(cls, student, teacher, options) for name, (cls, _, options) in terms.items()}
        )

    @property
    def needs_teacher(self) -> bool:
        """True if a loss reads a teacher."""
        return any(loss.needs_teacher for loss in self.terms.values())

    def needs_others(self) -> dict[str, bool]:
        """Return for each loss, by name, whether it learns nothing from a batch of one pair."""
        return {name: self.terms[module_name(name)].needs_others for name in self.weights}

    def forward(
        self,
        student: CLIPFeatures,
        teacher: CLIPFeatures | None = None,
        gather: Callable[[Tensor], Tensor] = lambda rows: rows,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """
        Compute all losses and their weighted sum.

        Args:
            student ([`CLIPFeatures`]): Features of the whole batch, gathered from all processes, and tokens of this
                one.
            teacher ([`CLIPFeatures`], *optional*): The teacher's features of the same pairs.
            gather (`Callable`, *optional*): Function that returns the rows of all processes, with gradient. Several
                processes need it.

        Returns:
            The weighted sum, a 0-dim `Tensor` in fp32 or fp64, and each loss before its weight, detached, by name.
        """
        student, teacher = full_precision(student, teacher)  # All losses share the unit-norm forms of the result.
        losses = {name: self.terms[module_name(name)] for name in self.weights}
        similar = {name: loss for name, loss in losses.items() if isinstance(loss, SimilarityLoss)}
        values = {name: loss.value(student, teacher, gather) for name, loss in losses.items() if name not in similar}
        total = sum(self.weights[name] * value for name, value in values.items())
        if similar:  # Losses on the same similarities share their computation.
            with torch.autocast(student.image_embeds.device.type, enabled=False):
                terms = [loss.checked_terms(student, teacher) for loss in similar.values()]
                subtotal, parts = evaluate(terms, [self.weights[name] for name in similar])
            total, values = total + subtotal, values | dict(zip(similar, parts, strict=True))
        return total, {name: values[name].detach() for name in self.weights}

    def bounded_scales(self) -> list[nn.Parameter]:
        """Return the learned scales of all losses, stored as logarithms, whose factor may be at most 100."""
        return [scale for loss in self.terms.values() for scale in loss.bounded_scales()]

    def clamp_scales_(self) -> None:
        """Limit the learned scales of all losses. Call it after each step of the optimizer."""
        for loss in self.terms.values():
            loss.clamp_scales_()

    def extra_repr(self) -> str:
        return f"weights={self.weights}"


def module_name(name: str) -> str:
    """Return a loss's name as a key of `nn.ModuleDict`, which allows no dots."""
    return name.replace(".", "_")
