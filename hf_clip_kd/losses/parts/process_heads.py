"""A published defect as a switch: heads that every process has for itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..base import DistillationLoss
from ..features import CLIPFeatures

FROZEN = "frozen_heads"
HEADS = (FROZEN, "unsynced_heads")


class ProcessHeads(DistillationLoss):
    """
    Mean of a loss over the heads of several processes. This is a defect, for studies of published code.

    Code that builds its losses outside of DDP gives each process other random heads, and never synchronises them.
    All processes compare the same gathered batch, and DDP averages the student's gradients. So the student learns from
    the mean of the loss over the processes' heads. This class computes that mean in any number of processes, also in a
    single process. Each of the heads learns from its own part, or stays at its random values. AdamW's steps do not
    depend on the factor `1 / processes` of a head's gradient.

    A student of width `Ds` cannot follow frozen heads `(Dt, Ds)` of `W` processes if `W * Dt` is above `Ds`. At most
    the share `Ds / (W * Dt)` of the variance of its targets is within reach.

    Args:
        losses (`list[DistillationLoss]`): The same loss once for each process, each with its own random heads.
        frozen (`bool`): Leave the heads, and the learned scales among them, at their first values.
    """

    takes_ensemble = True

    def __init__(self, losses: list[DistillationLoss], frozen: bool):
        nn.Module.__init__(self)  # The losses inside check their teacher and their features.
        self.losses = nn.ModuleList(losses)
        if frozen:
            self.losses.requires_grad_(False)
        self.needs_teacher, self.needs_others = losses[0].needs_teacher, losses[0].needs_others
        self.student_dims, self.teacher_dims = losses[0].student_dims, losses[0].teacher_dims

    def value(
        self, student: CLIPFeatures, teacher: CLIPFeatures, gather: Callable[[Tensor], Tensor] = lambda rows: rows
    ) -> Tensor:
        return torch.stack([loss.value(student, teacher, gather) for loss in self.losses]).mean()

    def values(self, student: CLIPFeatures, teacher: CLIPFeatures | None = None) -> Tensor:
        return self.value(student, teacher)

    def weigh(self, members: tuple[float, ...]) -> None:
        for loss in self.losses:
            loss.weigh(members)

    def asked(self) -> set[int]:
        return self.losses[0].asked()

    def bounded_scales(self) -> list[nn.Parameter]:
        return [scale for loss in self.losses for scale in loss.bounded_scales()]


def with_process_heads(make: Callable[[], DistillationLoss], options: Mapping[str, Any]) -> DistillationLoss:
    """Build a loss by `make`, in the form that `frozen_heads` or `unsynced_heads` among its options demand."""
    loss = make()
    name = next((name for name in HEADS if name in options), None)
    if name is None or next(loss.parameters(), None) is None:  # It has no head between equal widths.
        return loss
    return ProcessHeads([loss, *(make() for _ in range(options[name] - 1))], frozen=name == FROZEN)


def without_heads(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a loss that are its own."""
    return {name: value for name, value in options.items() if name not in HEADS}


def check_heads(name: str, options: Mapping[str, Any]) -> None:
    """Check `frozen_heads` and `unsynced_heads` among the options of the loss `name`.

    Raises:
        ValueError: if both are given, or the number of processes is none.
    """
    given = {option: options[option] for option in HEADS if option in options}
    if len(given) > 1:
        raise ValueError(
            f"The loss {name!r} in `losses` has {given}. Heads are frozen or learn, so one option of "
            f"{list(HEADS)} is allowed. Leave the other out: `losses={{'{name}': {{'{FROZEN}': 8}}}}`."
        )
    for option, count in given.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(
                f"`{option}={count!r}` of the loss {name!r} in `losses` is no number of processes. It must be an "
                f"integer of at least 1. Write for example `losses={{'{name}': {{'{option}': 8}}}}`."
            )


__all__ = ["HEADS", "ProcessHeads", "check_heads", "with_process_heads", "without_heads"]
