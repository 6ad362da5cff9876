"""A teacher that no process holds whole, for those too large to have one on each GPU; proven against a whole one."""

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
    Cut a frozen teacher into pieces, one for each process; a block is whole only while it computes.

    This is FSDP 2 whatever engine trains the student, since it needs none; ZeRO-3 would want an engine of its own for it. The
    teacher gives the same features as before, but all processes must ask it together. Its first answer is compared with that
    of a whole copy on the CPU, which is thrown away after that.

    Args:
        teacher ([`Teacher`]): On its device; changed in place. On a single process nothing happens.

    Raises:
        ValueError: If it has no blocks to share out, such as one that is read from a cache.
    """
    if world_size() == 1:
        return
    # Hashed while it is whole: later it would take all processes to bring it together.
    identity = teacher.identity()
    teacher.identity = lambda: identity
    if isinstance(teacher, TeacherEnsemble):
        for member in teacher.members:
            shard_teacher(member)
        return
    blocks = _blocks(teacher) if isinstance(teacher, nn.Module) else []
    if not blocks:
        raise ValueError(
            f"`teacher_sharded=True`, and this {type(teacher).__name__} has no weights to share out. It must be a model with "
            "a list of blocks. Leave `teacher_sharded` out."
        )
    whole = copy.deepcopy(teacher).to("cpu")
    for block in blocks:
        shard_(block)

    def compare_first(teacher, args, inputs, features) -> None:
        hook.remove()
        _compare(whole, inputs, features)

    hook = teacher.register_forward_hook(compare_first, with_kwargs=True)


def _blocks(module: nn.Module) -> list[nn.Module]:
    """What stands in the outermost lists of layers."""
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
                f"The sharded teacher's `{name}` of the first batch are wrong: they differ from a whole copy's by {error:.2g} of "
                f"their size. At most {TOLERANCE} is rounding. Leave `teacher_sharded` out, and report it."
            )


__all__ = ["shard_teacher"]
