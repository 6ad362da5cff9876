"""Weighted sum of several losses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .base import MAX_LOG_SCALE, DistillationLoss, full_precision, missing_teacher
from .ensemble import build, check_teacher
from .features import CLIPDims, CLIPFeatures
from .schedule import phases, read_weight
from .similarity import SimilarityLoss, evaluate
from .specification import defects, requested, specification

logger = logging.getLogger(__name__)


class LossSum(nn.Module):
    """
    Weighted sum of several losses, with their heads and learned scales.

    Args:
        losses (`str` or `dict[str, float | dict]`):
            Weight of each loss: `{"clip": 1, "fd": {"weight": 4, "reduction": "sum"}}`. A key is a name in `LOSSES`,
            or the dotted path of your own [`DistillationLoss`]. A value is a weight, or a `dict` of `weight` and
            options. A missing weight is the loss's default. A loss of weight 0 is left out. A name in `OBJECTIVES`,
            such as `"clip_kd"`, stands for several losses, alone or as a key. A weight may change at shares of the
            steps, `{"patch": {"weight": {0: 2, 0.5: 0.5}}}`, see [`~losses.schedule.read_weight`].
        student ([`CLIPDims`]): Widths of the student's features.
        teacher ([`CLIPDims`], *optional*):
            Widths of the teacher's features, or `None` without a teacher. With `members`, every loss learns from each
            member that can serve it, see [`EnsembleLoss`]. Their weights may change, too.

    Attributes:
        weights (`dict[str, float]`): Weight of each loss now, see [`LossSum.set_share`]. A loss at 0 is not computed.
        request ([`~losses.features.FeatureRequest`]): Features that the losses read now, beyond embeddings.
        phases (`list[float]`): A share of the steps from each phase in which the same losses and teachers are on.
        zeros_at_rest (`bool`): Heads of losses that are off get gradients of 0, not none. Some engines need it.

    Raises:
        ValueError: if a loss or option is unknown, or no loss is left, be it for a while.
        ValueError: if a weight is not allowed.
        ValueError: if the teacher of a loss is missing or cannot serve it, be it for a while.
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
        if found := defects(losses):
            logger.warning("The losses have defects of published code on purpose: %s.", "; ".join(found))
        self.losses = losses
        self.schedules = {name: weight for name, (_, weight, _) in terms.items()}
        self.member_schedules = [read_weight(member.weight) for member in teacher.members] if teacher else []
        self.phases = phases([*self.schedules.values(), *self.member_schedules])
        self.terms = nn.ModuleDict(
            {module_name(name): build(cls, student, teacher, options) for name, (cls, _, options) in terms.items()}
        )
        self.zeros_at_rest = False
        self.weights: dict[str, float] = {}
        self.member_weights: tuple[float, ...] = ()
        for share in reversed(self.phases):
            self.set_share(share)
            self._check_phase(share)

    def set_share(self, share: float) -> None:
        """
        Take the weights of a share of the steps, for losses and for the members of an ensemble.

        Args:
            share (`float`): Steps that are done, divided by all steps: 0 at the first step, 1 after the last.
        """
        weights = {name: schedule.at(share) for name, schedule in self.schedules.items()}
        members = tuple(schedule.at(share) for schedule in self.member_schedules)
        if weights == self.weights and members == self.member_weights:
            return  # Nothing that a compiled graph depends on is made anew.
        if members != self.member_weights:
            for loss in self.terms.values():
                loss.weigh(members)
        on = {name for name, weight in weights.items() if weight > 0}
        if on != {name for name, weight in self.weights.items() if weight > 0}:
            self.request = requested(self.losses, on)
        self.weights, self.member_weights = weights, members

    @property
    def on(self) -> dict[str, DistillationLoss]:
        """The losses whose weight is above 0 now, by name."""
        return {name: self.terms[module_name(name)] for name, weight in self.weights.items() if weight > 0}

    def asked(self) -> set[int]:
        """Return the numbers of the ensemble's members that a loss reads now: 0 is a single teacher, none nobody."""
        return set().union(*(loss.asked() for loss in self.on.values()))

    def changing_weights(self) -> dict[str, float]:
        """Return the present weight of each loss, and of each `teacher_NUMBER`, whose weight is not constant."""
        members = {f"teacher_{number}": schedule for number, schedule in enumerate(self.member_schedules)}
        now = self.weights | dict(zip(members, self.member_weights, strict=True))
        return {name: now[name] for name, schedule in (self.schedules | members).items() if schedule.changes}

    def _check_phase(self, share: float) -> None:
        when = f"{100 * share:g} % of the steps"
        if not self.on:
            raise ValueError(
                f"losses={self.losses!r} leaves nothing to train on at {when}. Some weight must be above 0 at any "
                "time. Give another loss a weight there."
            )
        idle = [name for name, loss in self.on.items() if loss.needs_teacher and not loss.asked()]
        if idle:
            raise ValueError(
                f"The losses {idle} have no teacher at {when}: the ensemble's members have the weights "
                f"{list(self.member_weights)}. A loss that is on needs a member that can serve it. Give such a member "
                "a weight there, or give these losses the weight 0 there."
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
        Compute all losses that are on, and their weighted sum.

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
        losses = self.on
        similar = {name: loss for name, loss in losses.items() if isinstance(loss, SimilarityLoss)}
        values = {name: loss.value(student, teacher, gather) for name, loss in losses.items() if name not in similar}
        total = sum(self.weights[name] * value for name, value in values.items())
        if similar:  # Losses on the same similarities share their computation.
            with torch.autocast(student.image_embeds.device.type, enabled=False):
                terms = [loss.checked_terms(student, teacher) for loss in similar.values()]
                subtotal, parts = evaluate(terms, [self.weights[name] for name in similar])
            total, values = total + subtotal, values | dict(zip(similar, parts, strict=True))
        if self.zeros_at_rest and len(self.phases) > 1:
            trained = [name for name, parameter in self.named_parameters() if parameter.requires_grad]
            # ZeRO-3 gathers a parameter that is read by name. It would repeat an old gradient if there is no new one.
            total = total + sum(0 * self.get_parameter(name).sum() for name in trained)
        return total, {name: values[name].detach() for name in losses}

    def bounded_scales(self) -> list[nn.Parameter]:
        """Return the learned scales of all losses with an upper bound, stored as logarithms."""
        return [scale for loss in self.terms.values() for scale in loss.bounded_scales()]

    def clamp_scales_(self, max_log_scale: float = MAX_LOG_SCALE) -> None:
        """Limit the learned scales of all losses, by default to 100. Call it after each step of the optimizer."""
        for loss in self.terms.values():
            loss.clamp_scales_(max_log_scale)

    def extra_repr(self) -> str:
        return f"weights={self.weights}"


def module_name(name: str) -> str:
    """Return a loss's name as a key of `nn.ModuleDict`, which allows no dots."""
    return name.replace(".", "_")
