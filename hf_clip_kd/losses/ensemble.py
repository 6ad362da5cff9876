"""Loss that learns from several teachers, and the check which of them can serve which loss."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .base import DistillationLoss, serving
from .features import CLIPDims, CLIPFeatures
from .parts.precise_buffers import PreciseBuffers
from .parts.process_heads import with_process_heads, without_heads
from .schedule import first_weights, read_weight
from .table import LOSSES

logger = logging.getLogger(__name__)

MEMORY = 0.99  # Decay of the running pulls. About the last hundred steps count.
MAX_GAIN = 1000.0  # Limit on the gain of a teacher whose pull vanishes.


class EnsembleLoss(PreciseBuffers, DistillationLoss):
    """
    Mean of one loss from each teacher of an ensemble, with own heads and scales, in which no teacher dominates.

    The effect of a teacher's loss is its *pull*, the norm of its gradient by the student's features. It depends on the
    teacher's temperature and width, and on the student's distance from the teacher. Let `w_k` be the weights, which
    add up to 1, `g_k` a running mean of the pulls, and `m = sum_k w_k * g_k`. The value is `sum_k w_k * (m / g_k) *
    loss_k`. Teacher `k` then has the share `w_k` of the whole pull. The whole pull is that of the plain weighted mean.
    The weight of the loss therefore means the same for one teacher as for several. Gradients are compared because the
    value of a cross-entropy also holds parts that no student can learn.
    [GradNorm](https://huggingface.co/papers/1711.02257) does the same with learned weights.

    A loss that reads all teachers at once (`takes_ensemble`) is not wrapped. A loss that compares images with texts
    learns from the teachers that have texts. A teacher whose weight is 0 for a while is not asked then. A step whose
    gradients are not all finite is not measured.

    Args:
        cls (`type[DistillationLoss]`): Class of the loss.
        student ([`CLIPDims`]): Widths of the student's features.
        teacher ([`CLIPDims`]): Widths and weight of each teacher, in `members`.
        options: Options of the loss, the same for all teachers.

    Raises:
        ValueError: if no teacher can serve the loss.
    """

    takes_ensemble = True
    needs_text = False  # The losses inside check this themselves.

    def __init__(self, cls: type[DistillationLoss], student: CLIPDims, teacher: CLIPDims, **options):
        super().__init__(student, teacher)
        self.serving = serving(cls, teacher)
        members = [teacher.members[index] for index in self.serving]
        self.losses = nn.ModuleList(cls(student, member, **options) for member in members)
        self.needs_others = all(loss.needs_others for loss in self.losses)
        self.register_buffer("weights", torch.zeros(len(members)), persistent=False)
        self.register_buffer("pulls", torch.zeros(len(members)))
        # Teachers that come and go are measured in other numbers of steps.
        apart = (len(members),) if any(read_weight(member.weight).changes for member in members) else ()
        self.register_buffer("steps", torch.zeros(apart, dtype=torch.int64))
        self.weigh(first_weights(member.weight for member in teacher.members))

    def weigh(self, members: tuple[float, ...]) -> None:
        weights = torch.tensor([members[index] for index in self.serving])
        self.on = weights.nonzero().flatten().tolist()
        self.weights.copy_(weights / weights.sum() if self.on else weights)

    def asked(self) -> set[int]:
        return {self.serving[number] for number in self.on}

    def value(
        self, student: CLIPFeatures, teacher: CLIPFeatures, gather: Callable[[Tensor], Tensor] = lambda rows: rows
    ) -> Tensor:
        values = [self.losses[i].values(student, teacher.members[self.serving[i]]) for i in self.on]
        if self.training and torch.is_grad_enabled() and len(values) > 1:
            self._measure(values, student, gather)
        means = torch.stack([(gather(value) if value.ndim else value).mean() for value in values])
        return (self.shares().to(means) * means).sum()

    def values(self, student: CLIPFeatures, teacher: CLIPFeatures | None = None) -> Tensor:
        return self.value(student, teacher)

    def shares(self) -> Tensor:
        """
        Return the factor on the loss of each teacher that is asked, shape `(teachers,)`.

        It is the teacher's weight until a pull was measured.
        """
        weights, pulls = self.weights[self.on], self.pulls[self.on]
        least = (pulls.max() / MAX_GAIN).clamp_min(torch.finfo(pulls.dtype).tiny)
        pulls = pulls.clamp_min(least)
        balanced = weights * (weights * pulls).sum() / pulls
        # A teacher that has just come has no pull yet.
        return torch.where((self.steps[self.on] > 0).all(), balanced, weights) if self.steps.ndim else balanced

    def _measure(self, values: list[Tensor], student: CLIPFeatures, gather: Callable[[Tensor], Tensor]) -> None:
        features = [x for x in student.tensors().values() if x.ndim and x.requires_grad]
        squares = []
        for value in values:
            gradients = torch.autograd.grad(value.sum(), features, retain_graph=True, allow_unused=True)
            squares.append(sum(gradient.square().sum() for gradient in gradients if gradient is not None))
        # Values of images belong to this process only. All processes must get the same shares as a single process.
        pulls, before = gather(torch.stack(squares)[None]).mean(dim=0).sqrt().to(self.pulls), self.pulls[self.on]
        counts = pulls.isfinite().all()  # A running mean would never lose a NaN.
        if self.steps.ndim:
            self.steps[self.on] += counts
        else:
            self.steps += counts
        steps = self.steps[self.on] if self.steps.ndim else self.steps
        newest = (1 / steps).clamp_min(1 - MEMORY)
        self.pulls[self.on] = torch.where(counts, before.lerp(pulls, newest.to(pulls)), before)

    def bounded_scales(self) -> list[nn.Parameter]:
        return [scale for loss in self.losses for scale in loss.bounded_scales()]

    def extra_repr(self) -> str:
        return f"teachers={self.serving}"


def build(
    cls: type[DistillationLoss], student: CLIPDims, teacher: CLIPDims | None, options: Mapping[str, Any]
) -> DistillationLoss:
    """Build a loss for its teacher, or an [`EnsembleLoss`] for each of several teachers."""
    own = without_heads(options)
    for_each = teacher is not None and teacher.members and cls.needs_teacher and not cls.takes_ensemble

    def make() -> DistillationLoss:
        return EnsembleLoss(cls, student, teacher, **own) if for_each else cls(student, teacher, **own)

    return with_process_heads(make, options)


def check_teacher(losses: Mapping[str, type[DistillationLoss]], teacher: CLIPDims) -> None:
    """
    Check that each loss has a teacher that can serve it, and that each member of an ensemble serves any.

    Args:
        losses (`dict[str, type[DistillationLoss]]`): Losses by name.
        teacher ([`CLIPDims`]): Widths of the teacher's features.

    Raises:
        ValueError: if not. The message names the losses that the teacher can serve.
    """
    asked = {name: cls for name, cls in losses.items() if cls.needs_teacher}
    without_text = [name for name, cls in asked.items() if not cls.needs_text]
    with_text = [name for name in asked if name not in without_text]
    if with_text and not teacher.has_text:
        raise ValueError(
            f"The losses {with_text} compare images with texts, and the teacher has no text tower. Of `losses`, it "
            f"can serve {without_text}. Losses that read no text are "
            f"{[name for name, cls in LOSSES.items() if not cls.needs_text]}. "
            "Leave the others out of `losses`, choose a dual encoder as teacher, or add one: "
            "`teacher_model_name_or_path: [THIS_ONE, A_DUAL_ENCODER]`."
        )
    for index, member in enumerate(teacher.members):
        if not member.has_text and with_text:
            if not without_text:
                raise ValueError(
                    f"Teacher {index} of the ensemble has no text tower, and all losses {with_text} compare images "
                    "with texts. It would teach nothing. Leave it out, or add a loss that reads no text, for example "
                    "`losses={..., 'relation': 10.0}`."
                )
            logger.info("Teacher %d has no texts. It serves %s, not %s.", index, without_text, with_text)


__all__ = ["EnsembleLoss", "build", "check_teacher"]
