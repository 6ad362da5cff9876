"""A teacher sharded over the processes, for teachers too large for each GPU; its first answer is checked."""

from __future__ import annotations

import copy

import torch
from torch import nn

from ..teachers.base import Teacher
from ..teachers.ensemble import TeacherEnsemble
from ..training.distributed import shard_, world_size

ROWS = 2
# Rounding of bf16 or TF32 stays far below; a weight that came out wrong does not.
TOLERANCE = 0.05


def shard_teacher(teacher: Teacher) -> None:
    """
    Shard a frozen teacher over the processes; a block is gathered only while it computes.

    It is FSDP 2 whatever engine trains the student. FSDP 2 needs no engine, and ZeRO-3 would need a second one. The
    teacher gives the same features as before, but all processes must ask it together. Its first answer is compared
    with that of a whole copy on the CPU, which is then thrown away.

    Args:
        teacher ([`Teacher`]): The teacher, on its device. It is changed in place. On a single process nothing happens.

    Raises:
        ValueError: It has no blocks to share out, for example a teacher that is read from a cache.
    """
    if world_size() == 1:
        return
    # The hash needs all weights. Later all processes would have to gather them.
    identity = teacher.identity()
    teacher.identity = lambda: identity
    if isinstance(teacher, TeacherEnsemble):
        for member in teacher.members:
            shard_teacher(member)
        return
    blocks = _blocks(teacher)
    if not blocks:
        raise ValueError(
            f"`teacher_sharded=True`, and this {type(teacher).__name__} has no weights to share out. It must be a "
            "model with a list of blocks. Leave `teacher_sharded` out."
        )
    whole = copy.deepcopy(teacher).to("cpu")
    for block in blocks:
        shard_(block)

    def compare_first(teacher, args, inputs, features) -> None:
        hook.remove()
        _compare(whole, inputs, features)

    hook = teacher.register_forward_hook(compare_first, with_kwargs=True)


def _blocks(module: nn.Module) -> list[nn.Module]:
    """Return the members of the outermost lists of layers."""
    if isinstance(module, nn.ModuleList | nn.Sequential):
        return [block for block in module if next(block.parameters(), None) is not None]
    return [block for child in module.children() for block in _blocks(child)]


@torch.no_grad()
def _compare(whole: Teacher, inputs: dict, features) -> None:
    few = {name: value[:ROWS] for name, value in inputs.items() if value is not None}
    expected = whole(**few).tensors()
    for name, value in features.tensors().items():
        if value.ndim == 0:
            continue
        error = ((value[:ROWS] - expected[name]).norm() / expected[name].norm()).item()
        if not error <= TOLERANCE:  # also where it is no number
            raise RuntimeError(
                f"The sharded teacher's `{name}` of the first batch are wrong: they differ from a whole copy's by "
                f"{error:.2g} of their size. At most {TOLERANCE} is rounding. Leave `teacher_sharded` out, and report "
                "it."
            )


__all__ = ["shard_teacher"]
