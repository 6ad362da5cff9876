"""Published sums of losses under one name each: `losses: clip_kd`."""

from collections.abc import Callable, Mapping
from typing import Any


def clip_kd(*, upstream_compat: bool = False) -> dict[str, Any]:
    """
    [CLIP-KD](https://huggingface.co/papers/2307.12732): the task, its ranking, its features and its keys.

    Args:
        upstream_compat (`bool`, *optional*, defaults to `False`):
            The published weights and forms. The default weight of `fd` is theirs for a teacher 512 wide, rounded.
    """
    published = {"upstream_compat": True}
    fd = {"weight": 2000.0, **published} if upstream_compat else {"weight": 4.0}
    icl = {"weight": 1.0, **published} if upstream_compat else {"weight": 1.0}
    return {"clip": {"weight": 1.0}, "crd": {"weight": 1.0}, "icl": icl, "fd": fd}


def tinyclip() -> dict[str, Any]:
    """[TinyCLIP](https://huggingface.co/papers/2309.12314): affinity mimicking alone, both scales pinned at 50."""
    return {"affinity": {"weight": 1.0, "logit_scale": 50.0, "teacher_logit_scale": 50.0}}


def mobileclip() -> dict[str, Any]:
    """
    [MobileCLIP](https://huggingface.co/papers/2311.17049): a quarter task, three quarters reinforced, both on real and
    generated captions where the data have the latter.
    """
    return {"clip": {"weight": 0.25, "synthetic": True}, "reinforced": {"weight": 0.75}}


OBJECTIVES: dict[str, Callable[..., Mapping[str, Mapping[str, Any]]]] = {
    "clip_kd": clip_kd,
    "tinyclip": tinyclip,
    "mobileclip": mobileclip,
}
