"""A loss that learns from several teachers, and which of them can serve which loss."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .base import DistillationLoss, serving
from .features import CLIPDims, CLIPFeatures
from .table import LOSSES

logger = logging.getLogger(__name__)

MEMORY = 0.99  # of the running pulls: about the last hundred steps count
MAX_GAIN = 1000.0  # a teacher whose pull vanishes is not amplified without end


class EnsembleLoss(DistillationLoss):
    """
    One loss from each teacher of an ensemble, with heads and scales of its own, averaged so that no teacher dominates.

    What a teacher's loss does is its *pull*, the norm of its gradient by the student's features. Teachers differ in it by
    their temperature, width and how far the student is from them. With `w_k` the weights, adding up to 1, and `g_k` a
    running mean of the pulls, the value is `sum_k w_k * (m / g_k) * loss_k` with `m = sum_k w_k * g_k`: teacher `k` has the
    share `w_k` of the whole pull, and all together pull as hard as in the plain weighted mean, so the weight of the loss
    means the same for one teacher as for several. Gradients instead of values, since the value of a cross-entropy also
    holds what no student can learn (as in [GradNorm](https://huggingface.co/papers/1711.02257), without its learned
    weights).

    A loss that looks at all teachers at once itself (`takes_ensemble`) is not wrapped. A loss that compares images with
    texts learns from the teachers that have texts.

    Args:
        cls (`type[DistillationLoss]`): The loss.
        student ([`CLIPDims`]): Widths of the student's features.
        teacher ([`CLIPDims`]): Widths and weight of each teacher, in `members`.
        options: Of the loss, the same for all teachers.

    Raises:
        ValueError: If no teacher can serve the loss.
    """

    takes_ensemble = True
    needs_text = False  # the loss inside says whether it does

    def __init__(self, cls: type[DistillationLoss], student: CLIPDims, teacher: CLIPDims, **options):
        super().__init__(student, teacher)
        self.serving = serving(cls, teacher)
        members = [teacher.members[index] for index in self.serving]
        self.losses = nn.ModuleList(cls(student, member, **options) for member in members)
        weights = torch.tensor([member.weight for member in members])
        self.register_buffer("weights", weights / weights.sum(), persistent=False)
        self.register_buffer("pulls", torch.zeros(len(members)))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def value(
        self, student: CLIPFeatures, teacher: CLIPFeatures, gather: Callable[[Tensor], Tensor] = lambda rows: rows
    ) -> Tensor:
        members = [teacher.members[index] for index in self.serving]
        values = [loss.values(student, member) for loss, member in zip(self.losses, members, strict=True)]
        if self.training and torch.is_grad_enabled() and len(values) > 1:
            self._measure(values, student, gather)
        means = torch.stack([(gather(value) if value.ndim else value).mean() for value in values])
        return (self.shares().to(means) * means).sum()

    def values(self, student: CLIPFeatures, teacher: CLIPFeatures | None = None) -> Tensor:
        return self.value(student, teacher)

    def shares(self) -> Tensor:
        """The factor on each teacher's loss, shape `(teachers,)`: the weights alone until a pull was measured."""
        least = (self.pulls.max() / MAX_GAIN).clamp_min(torch.finfo(self.pulls.dtype).tiny)
        pulls = self.pulls.clamp_min(least)
        return self.weights * (self.weights * pulls).sum() / pulls

    def _measure(self, values: list[Tensor], student: CLIPFeatures, gather: Callable[[Tensor], Tensor]) -> None:
        features = [x for x in student.tensors().values() if x.ndim and x.requires_grad]
        squares = []
        for value in values:
            gradients = torch.autograd.grad(value.sum(), features, retain_graph=True, allow_unused=True)
            squares.append(sum(gradient.square().sum() for gradient in gradients if gradient is not None))
        # Values of images are of this process's only; all processes must come to the same shares, that of one process.
        pulls = gather(torch.stack(squares)[None]).mean(dim=0).sqrt()
        self.steps += 1
        newest = (1 / self.steps).clamp_min(1 - MEMORY)
        self.pulls.lerp_(pulls.to(self.pulls), newest.to(self.pulls))

    def bounded_scales(self) -> list[nn.Parameter]:
        return [scale for loss in self.losses for scale in loss.bounded_scales()]

    def extra_repr(self) -> str:
        return f"teachers={self.serving}"


def build(
    cls: type[DistillationLoss], student: CLIPDims, teacher: CLIPDims | None, options: Mapping[str, Any]
) -> DistillationLoss:
    """A loss for its one teacher, or from each of several."""
    several = teacher is not None and teacher.members and cls.needs_teacher and not cls.takes_ensemble
    return EnsembleLoss(cls, student, teacher, **options) if several else cls(student, teacher, **options)


def check_teacher(losses: Mapping[str, type[DistillationLoss]], teacher: CLIPDims) -> None:
    """
    Whether the teacher, or one of an ensemble, can serve each loss, and each of an ensemble any.

    Args:
        losses (`dict[str, type[DistillationLoss]]`): The losses asked for, by name.
        teacher ([`CLIPDims`]): What the teacher gives.

    Raises:
        ValueError: If not; the message names what the teacher can serve.
    """
    asked = {name: cls for name, cls in losses.items() if cls.needs_teacher}
    without_text = [name for name, cls in asked.items() if not cls.needs_text]
    with_text = [name for name in asked if name not in without_text]
    if with_text and not teacher.has_text:
        raise ValueError(
            f"The losses {with_text} compare images with texts, and the teacher has no text tower. Of those asked for it can "
            f"serve {without_text}; losses that read no text are {[name for name, cls in LOSSES.items() if not cls.needs_text]}. "
            "Leave the others out of `losses`, choose a dual encoder as teacher, or add one: "
            "`teacher_model_name_or_path: [THIS_ONE, A_DUAL_ENCODER]`."
        )
    for index, member in enumerate(teacher.members):
        if not member.has_text and with_text:
            if not without_text:
                raise ValueError(
                    f"Teacher {index} of the ensemble has no text tower, and all the losses {with_text} compare images with "
                    "texts, so it teaches nothing. Leave it out, or add a loss that reads no text, for example "
                    "`losses={..., 'relation': 10.0}`."
                )
            logger.info("Teacher %d has no texts: it serves %s, not %s.", index, without_text, with_text)


__all__ = ["EnsembleLoss", "build", "check_teacher"]
