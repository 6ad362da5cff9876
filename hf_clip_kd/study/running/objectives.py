"""Facts about the objectives of a study, and the study of every loss."""

from __future__ import annotations

import inspect
from typing import Any

from ...losses import LOSSES, OBJECTIVES, requested
from ...losses.features import PROJECTOR
from ...losses.specification import specification

TASK = "clip"
Losses = str | dict[str, Any]


def needs_teacher(losses: Losses) -> bool:
    """Return True if one of the losses asks a teacher."""
    return any(cls.needs_teacher for cls, _, _ in specification(losses).values())


def reads_generated_captions(losses: Losses) -> bool:
    """Return True if one of the losses has the option `synthetic` and it is on."""
    for cls, _, options in specification(losses).values():
        parameter = inspect.signature(cls).parameters.get("synthetic")
        if parameter is not None and options.get("synthetic", parameter.default):
            return True
    return False


def reads_projector(losses: Losses) -> bool:
    """Return True if a loss imitates what the projector of the teacher's vision-language model makes of its tokens."""
    return PROJECTOR in requested(losses).teacher_reads


def every_objective() -> dict[str, Losses]:
    """
    Return each loss of the table alone and with the task, and each shorthand, with weights and options spelled out.

    Returns:
        `dict`: `crd` and `clip+crd` of the loss `crd`, `clip_kd` of that shorthand; the task `clip` first.
    """
    found = {TASK: {TASK: 1.0}}
    for name in LOSSES:
        if name != TASK:
            weight = LOSSES[name].default_weight
            found |= {name: {name: weight}, f"{TASK}+{name}": {TASK: 1.0, name: weight}}
    found |= {name: name for name in OBJECTIVES}
    # A default that changes in the code changes the objective, and so its stages.
    return {name: _spelled_out(losses) for name, losses in found.items()}


def one_cell_each(objectives: dict[str, Losses], teacher: str) -> list[dict[str, Any]]:
    """Return one block for each objective, with the teacher where the losses need one."""
    return [
        {"teacher": teacher if needs_teacher(losses) else None, "objective": name}
        for name, losses in objectives.items()
    ]


def _spelled_out(losses: Losses) -> dict[str, dict[str, Any]]:
    return {name: {"weight": weight.plain, **options} for name, (_, weight, options) in specification(losses).items()}
