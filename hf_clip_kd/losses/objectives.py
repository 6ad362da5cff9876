"""Names for published sums of losses, such as `losses: clip_kd`."""

from collections.abc import Callable, Mapping
from typing import Any


def clip_kd(*, upstream_compat: bool = False) -> dict[str, Any]:
    """
    Return the objective of [CLIP-KD](https://huggingface.co/papers/2307.12732): task, ranking, keys and features.

    Args:
        upstream_compat (`bool`, *optional*, defaults to `False`):
            Use the published weights and forms. The default weight of `fd` is the published one for a teacher of width
            512, rounded.
    """
    published = {"upstream_compat": True}
    fd = {"weight": 2000.0, **published} if upstream_compat else {"weight": 4.0}
    icl = {"weight": 1.0, **published} if upstream_compat else {"weight": 1.0}
    return {"clip": {"weight": 1.0}, "crd": {"weight": 1.0}, "icl": icl, "fd": fd}


def tinyclip() -> dict[str, Any]:
    """Return the objective of [TinyCLIP](https://huggingface.co/papers/2309.12314): affinity, scales fixed at 50."""
    return {"affinity": {"weight": 1.0, "logit_scale": 50.0, "teacher_logit_scale": 50.0}}


def mobileclip() -> dict[str, Any]:
    """
    Return the objective of [MobileCLIP](https://huggingface.co/papers/2311.17049): a quarter task, three reinforced.

    Both losses read the real captions, and the generated captions if the data has them.
    """
    return {"clip": {"weight": 0.25, "synthetic": True}, "reinforced": {"weight": 0.75}}


OBJECTIVES: dict[str, Callable[..., Mapping[str, Mapping[str, Any]]]] = {
    "clip_kd": clip_kd,
    "tinyclip": tinyclip,
    "mobileclip": mobileclip,
}
