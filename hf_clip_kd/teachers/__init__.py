"""Frozen models to learn from, live or stored: [`load_teacher`] makes any of them from what a recipe says."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from .base import Teacher, as_dtype
from .clip import CLIPTeacher
from .ensemble import TeacherEnsemble
from .function import FunctionTeacher
from .processors import TeacherProcessor

OPTIONS = ("name", "weight", "logit_scale", "dtype", "device", "compile")


def load_teacher(
    teacher: str | os.PathLike | nn.Module | Mapping[str, Any] | Sequence[Any],
    *,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    compile: bool = False,
    trust_remote_code: bool = False,
) -> Teacher:
    """
    Any teacher.

    Args:
        teacher (`str`, `os.PathLike`, `nn.Module`, `Mapping` or a list of these):
            What [`CLIPTeacher`] takes, or a [`Teacher`], which stays as it is. A mapping has it as `name`, and any of
            `logit_scale`, `dtype`, `device` and `compile`, which go before those given here. A list is an ensemble, of
            which each may also have a `weight`.
        dtype, device, compile, trust_remote_code (*optional*): As in [`CLIPTeacher`]; a dtype may be a name.

    Raises:
        ValueError: As [`CLIPTeacher`] and [`TeacherEnsemble`] do, or a mapping has no `name` or unknown keys.

    Example:

    ```python
    load_teacher(["openai/clip-vit-base-patch16", {"name": "timm:vit_small_patch14_dinov2.lvd142m", "weight": 0.5}])
    ```
    """
    options = {"dtype": dtype, "device": device, "compile": compile, "trust_remote_code": trust_remote_code}
    if isinstance(teacher, Sequence) and not isinstance(teacher, str):
        weights = [one.get("weight", 1.0) if isinstance(one, Mapping) else 1.0 for one in teacher]
        return TeacherEnsemble([_load_one(one, options) for one in teacher], weights)
    return _load_one(teacher, options)


def _load_one(teacher, options: dict[str, Any]) -> Teacher:
    if isinstance(teacher, Teacher):
        return teacher
    if isinstance(teacher, Mapping):
        unknown = sorted(set(teacher) - set(OPTIONS))
        if unknown or "name" not in teacher:
            raise ValueError(
                f"The teacher {dict(teacher)!r} {f'has the unknown keys {unknown}' if unknown else 'has no name'}; allowed "
                f"are {', '.join(OPTIONS)}; write for example {{'name': 'open_clip:ViT-B-16/openai', 'weight': 2}}."
            )
        own = {key: value for key, value in teacher.items() if key not in ("name", "weight")}
        teacher, options = teacher["name"], options | own
        if isinstance(teacher, Teacher):
            if own:
                raise ValueError(
                    f"The teacher {type(teacher).__name__} is made already and was given {own}; beside a ready teacher only "
                    "a `weight` may stand; give the others to CLIPTeacher or FunctionTeacher where it is made."
                )
            return teacher
    return CLIPTeacher(teacher, **options | {"dtype": as_dtype(options["dtype"])})


__all__ = ["CLIPTeacher", "FunctionTeacher", "Teacher", "TeacherEnsemble", "TeacherProcessor", "load_teacher"]
