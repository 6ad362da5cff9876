"""Distillation losses: the table of their names, and their weighted sum. To add one: a file here and a line in `LOSSES`."""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..features import CLIPDims, CLIPFeatures
from .base import DistillationLoss, full_precision, missing_teacher
from .clip import CLIPLoss
from .crd import CRDLoss
from .fd import FDLoss
from .icl import ICLLoss
from .siglip import SigLIPLoss

__all__ = ["LOSSES", "CLIPLoss", "CRDLoss", "DistillationLoss", "FDLoss", "ICLLoss", "LossSum", "SigLIPLoss"]

LOSSES: dict[str, type[DistillationLoss]] = {
    "clip": CLIPLoss,
    "siglip": SigLIPLoss,
    "crd": CRDLoss,
    "fd": FDLoss,
    "icl": ICLLoss,
}


class LossSum(nn.Module):
    """
    The weighted sum of several losses, with their heads and learned scales.

    Args:
        losses (`dict[str, float | dict]`):
            Weight of each loss by its name in `LOSSES` or the dotted path of a [`DistillationLoss`] of your own, or a
            `dict` of its `weight` (1 if left out) and options: `{"clip": 1, "fd": {"weight": 4, "reduction": "sum"}}`.
            A loss of weight 0 is left out.
        student ([`CLIPDims`]): Widths of the student's features.
        teacher ([`CLIPDims`], *optional*): Widths of the teacher's features; `None` where there is no teacher.

    Raises:
        ValueError: For an unknown loss or option, a weight that is no finite number of at least 0, a sum without any
            term, or a loss whose teacher is missing.
    """

    def __init__(
        self, losses: Mapping[str, float | Mapping[str, Any]], student: CLIPDims, teacher: CLIPDims | None = None
    ):
        super().__init__()
        terms = {name: (resolve(name), *parse(name, spec)) for name, spec in checked_mapping(losses).items()}
        for name, (cls, _, options) in terms.items():
            check_options(name, cls, options)
        terms = {name: term for name, term in terms.items() if term[1] > 0}
        if not terms:
            raise ValueError(
                f"losses={dict(losses)} leaves nothing to train on. Give at least one of {sorted(LOSSES)} a weight above "
                "0, for example `losses={'clip': 1.0}`."
            )
        orphans = [name for name, (cls, _, _) in terms.items() if cls.needs_teacher]
        if orphans and teacher is None:
            raise missing_teacher(orphans)
        self.weights = {name: weight for name, (_, weight, _) in terms.items()}
        self.terms = nn.ModuleDict(
            {module_name(name): cls(student, teacher, **options) for name, (cls, _, options) in terms.items()}
        )

    @property
    def needs_teacher(self) -> bool:
        """Whether any of the losses looks at a teacher."""
        return any(loss.needs_teacher for loss in self.terms.values())

    def forward(self, student: CLIPFeatures, teacher: CLIPFeatures | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """
        Args:
            student ([`CLIPFeatures`]): Features of the whole batch, gathered from all processes.
            teacher ([`CLIPFeatures`], *optional*): The teacher's features of the same pairs.

        Returns:
            The weighted sum, a 0-dim `Tensor` in fp32 or fp64, and each loss before its weight, detached, by name.
        """
        student, teacher = full_precision(student, teacher)  # once, so that all losses share the unit-norm forms
        values = {name: self.terms[module_name(name)](student, teacher) for name in self.weights}
        total = torch.stack([self.weights[name] * value for name, value in values.items()]).sum()
        return total, {name: value.detach() for name, value in values.items()}

    def clamp_scales_(self) -> None:
        """Limits the learned scales of all losses; call it after each step of the optimizer."""
        for loss in self.terms.values():
            loss.clamp_scales_()

    def extra_repr(self) -> str:
        return f"weights={self.weights}"


def module_name(name: str) -> str:
    """A loss's name as a key of `nn.ModuleDict`, which allows no dots."""
    return name.replace(".", "_")


def checked_mapping(losses) -> Mapping:
    if not isinstance(losses, Mapping):
        raise ValueError(
            f"losses={losses!r} is no mapping of losses to weights. Write for example `losses={{'clip': 1.0, 'crd': 1.0}}`; "
            f"the losses are {sorted(LOSSES)}."
        )
    return losses


def resolve(name: str) -> type[DistillationLoss]:
    """The class of a loss by its name in `LOSSES` or its dotted path; `ValueError` if there is none."""
    if name in LOSSES:
        return LOSSES[name]
    module, _, attribute = str(name).rpartition(".")
    if not module:
        close = difflib.get_close_matches(str(name), LOSSES, n=1, cutoff=0.5)
        hint = f"Did you mean `losses={{'{close[0]}': 1.0}}`?" if close else "For example `losses={'clip': 1.0}`."
        raise ValueError(
            f"{name!r} in `losses` is no loss. Allowed are {sorted(LOSSES)}, or the dotted path of a class of your own, "
            f"`package.module.Class`. {hint}"
        )
    try:
        cls = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"{name!r} in `losses` cannot be imported: {error}. A dotted path must be `package.module.Class` and "
            f"importable from where the run starts (`PYTHONPATH`); the built-in losses are {sorted(LOSSES)}."
        ) from error
    if not (inspect.isclass(cls) and issubclass(cls, DistillationLoss)):
        raise ValueError(
            f"{name!r} in `losses` is {cls!r}, not a loss. A dotted path must name a subclass of "
            "`hf_clip_kd.losses.DistillationLoss`; derive yours from it."
        )
    return cls


def parse(name: str, spec: float | Mapping[str, Any]) -> tuple[float, dict[str, Any]]:
    """Weight and options in one value of `losses`."""
    options = dict(spec) if isinstance(spec, Mapping) else {"weight": spec}
    weight = options.pop("weight", 1.0)
    try:
        value = (
            math.nan if isinstance(weight, bool) else float(weight)
        )  # float() also reads "1e8", which YAML leaves a string
    except (TypeError, ValueError):
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(
            f"The weight {weight!r} of the loss {name!r} in `losses` is not allowed: it must be a finite number of at "
            f"least 0, and 0 leaves the loss out. Write for example `losses={{'{name}': 1.0}}`."
        )
    return value, options


def check_options(name: str, cls: type[DistillationLoss], options: Mapping[str, Any]) -> None:
    """`ValueError` if a loss of this class does not know one of the options."""
    parameters = inspect.signature(cls).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    allowed = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    for option in options:
        if option not in allowed:
            close = difflib.get_close_matches(str(option), [*allowed, "weight"], n=1)
            hint = (
                f"Did you mean {close[0]!r}?"
                if close
                else f"Write for example `losses={{'{name}': {{'weight': 1.0}}}}`."
            )
            raise ValueError(
                f"The loss {name!r} in `losses` has no option {option!r}. Allowed are {['weight', *allowed]}. {hint}"
            )
