"""Kinds of teachers: the table from the prefix of a name to the function that makes the teacher."""

from __future__ import annotations

from collections.abc import Callable

from ..models.names import parse_name
from .base import Teacher
from .clip import CLIPTeacher

# Prefix of a name -> `make(name, *, dtype, device, compile, trust_remote_code[, logit_scale]) -> Teacher`.
# It gets the whole name, and `dtype` as a `torch.dtype`. Names without a prefix are a CLIPTeacher's.
KINDS: dict[str, Callable[..., Teacher]] = {
    "open_clip": CLIPTeacher,
    "timm": CLIPTeacher,
}


def maker(name: str) -> Callable[..., Teacher]:
    """
    Find the function that makes the teacher of this name.

    Raises:
        ValueError: The name has a prefix that is not in [`KINDS`].
    """
    parsed = parse_name(name)
    if parsed.rest != name and parsed.kind not in KINDS:
        raise ValueError(
            f"The teacher {name!r} has the unknown prefix '{parsed.kind}:'. Allowed are "
            f"{', '.join(f'{kind}:' for kind in KINDS)}, and no prefix for folders and Hub ids. Write for example "
            "load_teacher('open_clip:ViT-B-16/openai')."
        )
    return KINDS.get(parsed.kind, CLIPTeacher)


__all__ = ["KINDS", "maker"]
