"""The weighted sum of several losses."""

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
    The weighted sum of several losses, with their heads and learned scales.

    Args:
        losses (`str` or `dict[str, float | dict]`):
            Weight of each loss by its name in `LOSSES` or the dotted path of a [`DistillationLoss`] of your own, or a
            `dict` of its `weight` (if left out, the loss's default) and options:
            `{"clip": 1, "fd": {"weight": 4, "reduction": "sum"}}`. A loss of weight 0 is left out. A name in
            `OBJECTIVES`, such as `"clip_kd"`, stands for several losses, alone or as a key.
        student ([`CLIPDims`]): Widths of the student's features.
        teacher ([`CLIPDims`], *optional*):
            Widths of the teacher's features; `None` where there is no teacher. With `members`, every loss learns from each
            of them that can serve it, see [`EnsembleLoss`].

    Raises:
        ValueError: For an unknown loss or option, a weight that is no finite number of at least 0, a sum without any
            term, or a loss whose teacher is missing or cannot serve it.
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
        """Whether any of the losses looks at a teacher."""
        return any(loss.needs_teacher for loss in self.terms.values())

    def forward(
        self,
        student: CLIPFeatures,
        teacher: CLIPFeatures | None = None,
        gather: Callable[[Tensor], Tensor] = lambda rows: rows,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """
        Args:
            student ([`CLIPFeatures`]): Features of the whole batch, gathered from all processes; tokens of this one's.
            teacher ([`CLIPFeatures`], *optional*): The teacher's features of the same pairs.
            gather (`Callable`, *optional*): The rows of all processes, with gradient; needed where there are several.

        Returns:
            The weighted sum, a 0-dim `Tensor` in fp32 or fp64, and each loss before its weight, detached, by name.
        """
        student, teacher = full_precision(student, teacher)  # once, so that all losses share the unit-norm forms
        losses = {name: self.terms[module_name(name)] for name in self.weights}
        similar = {name: loss for name, loss in losses.items() if isinstance(loss, SimilarityLoss)}
        values = {name: loss.value(student, teacher, gather) for name, loss in losses.items() if name not in similar}
        total = sum(self.weights[name] * value for name, value in values.items())
        if similar:  # together, so that losses on the same similarities share their computation
            with torch.autocast(student.image_embeds.device.type, enabled=False):
                terms = [loss.checked_terms(student, teacher) for loss in similar.values()]
                subtotal, parts = evaluate(terms, [self.weights[name] for name in similar])
            total, values = total + subtotal, values | dict(zip(similar, parts, strict=True))
        return total, {name: values[name].detach() for name in self.weights}

    def bounded_scales(self) -> list[nn.Parameter]:
        """The learned scales of all losses, stored as logarithms, whose factor may be at most 100."""
        return [scale for loss in self.terms.values() for scale in loss.bounded_scales()]

    def clamp_scales_(self) -> None:
        """Limits the learned scales of all losses; call it after each step of the optimizer."""
        for loss in self.terms.values():
            loss.clamp_scales_()

    def extra_repr(self) -> str:
        return f"weights={self.weights}"


def module_name(name: str) -> str:
    """A loss's name as a key of `nn.ModuleDict`, which allows no dots."""
    return name.replace(".", "_")
