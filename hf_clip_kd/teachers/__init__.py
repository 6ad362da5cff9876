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
from .kinds import maker
from .lifted import LiftedTeacher
from .processors import TeacherProcessor

OPTIONS = ("name", "weight", "tokens_from", "image_size", "logit_scale", "dtype", "device", "compile")


def load_teacher(
    teacher: str | os.PathLike | nn.Module | Mapping[str, Any] | Sequence[Any],
    *,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    compile: bool = False,
    trust_remote_code: bool = False,
) -> Teacher:
    """
    Load any teacher.

    Args:
        teacher (`str`, `os.PathLike`, `nn.Module`, `Mapping` or a list of these):
            A name or a model as for [`CLIPTeacher`], or a [`Teacher`], which stays as it is. The prefix of a name
            chooses the kind, see [`~hf_clip_kd.teachers.kinds.KINDS`]. A mapping has the name or the model as `name`,
            and any of `image_size`, `logit_scale`, `dtype`, `device` and `compile`. They go before those given here.
            `tokens_from` names a tower whose image tokens stand for its own, see [`LiftedTeacher`]. A list is an
            ensemble, and each entry may also have a `weight`.
        dtype, device, compile, trust_remote_code (*optional*): Arguments of [`CLIPTeacher`]; a dtype may be a name.

    Raises:
        ValueError: [`CLIPTeacher`] or [`TeacherEnsemble`] refuses, the prefix of a name is unknown, or a mapping has
            no `name` or unknown keys.

    Example:

    ```python
    load_teacher(["openai/clip-vit-base-patch16", {"name": "timm:vit_small_patch14_dinov2.lvd142m", "weight": 0.5}])
    load_teacher({"name": "outputs/demo/teacher", "tokens_from": "outputs/lift/teacher"})
    ```
    """
    options = {"dtype": dtype, "device": device, "compile": compile, "trust_remote_code": trust_remote_code}
    if isinstance(teacher, Sequence) and not isinstance(teacher, str):
        weights = [member.get("weight", 1.0) if isinstance(member, Mapping) else 1.0 for member in teacher]
        return TeacherEnsemble([_load_member(member, options) for member in teacher], weights)
    return _load_member(teacher, options)


def _load_member(teacher, options: dict[str, Any]) -> Teacher:
    if isinstance(teacher, Teacher):
        return teacher
    if isinstance(teacher, Mapping):
        unknown = sorted(set(teacher) - set(OPTIONS))
        if unknown or "name" not in teacher:
            raise ValueError(
                f"The teacher {dict(teacher)!r} {f'has the unknown keys {unknown}' if unknown else 'has no name'}. "
                f"Allowed are {', '.join(OPTIONS)}. Write for example "
                f"{{'name': 'open_clip:ViT-B-16/openai', 'weight': 2}}."
            )
        if "tokens_from" in teacher:
            embeds = {key: value for key, value in teacher.items() if key != "tokens_from"}
            tokens = {key: teacher[key] for key in ("dtype", "device", "compile") if key in teacher}
            tokens |= {"name": teacher["tokens_from"]}
            return LiftedTeacher(_load_member(embeds, options), _load_member(tokens, options))
        own = {key: value for key, value in teacher.items() if key not in ("name", "weight")}
        teacher, options = teacher["name"], options | own
        if isinstance(teacher, Teacher):
            if own:
                raise ValueError(
                    f"The teacher {type(teacher).__name__} is made already and was given {own}. Beside a ready "
                    "teacher only a `weight` may stand. Give the others to CLIPTeacher or FunctionTeacher where it is "
                    "made."
                )
            return teacher
    options = options | {"dtype": as_dtype(options["dtype"])}
    make = CLIPTeacher if isinstance(teacher, nn.Module) else maker(os.fspath(teacher))
    return make(teacher, **options)


__all__ = [
    "CLIPTeacher",
    "FunctionTeacher",
    "LiftedTeacher",
    "Teacher",
    "TeacherEnsemble",
    "TeacherProcessor",
    "load_teacher",
]
