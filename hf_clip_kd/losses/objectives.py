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


def eupe(*, layer: int = -1, teacher_layer: int = -1, summary: str | None = "class_token") -> dict[str, Any]:
    """
    Return the objective of [EUPE](https://huggingface.co/papers/2603.22387): patches and class token, no texts.

    It is that of the second and third stage: MLP heads with 3072 hidden channels, and statistics of 500 iterations.
    Tokens are compared on the larger grid, bicubically, and both distances have the weight 1. EUPE reads the tokens
    after the final norm. The nearest entry of `hidden_states` is the last.

    Args:
        layer (`int`, *optional*, defaults to -1): Entry of the student's `hidden_states`. LLaVA reads -2.
        teacher_layer (`int`, *optional*, defaults to -1): Entry of the teacher's `hidden_states`.
        summary (`str`, *optional*, defaults to `"class_token"`):
            Partner beside the patches. Take `"image_embeds"` for towers without a class token.
    """
    return {
        "patch": {
            "weight": 1.0,
            "layer": layer,
            "teacher_layer": teacher_layer,
            "hidden_dim": 3072,
            "statistics": 500,
            "summary": summary,
            "summary_weight": 1.0,
            "grid": "larger",
            "interpolation": "bicubic",
        }
    }


def am_radio(*, layer: int = -1, teacher_layer: int = -1, summary: str | None = "class_token") -> dict[str, Any]:
    """
    Return the objective of [AM-RADIO](https://huggingface.co/papers/2312.06709): patches and class token, no texts.

    The heads are MLPs, as wide inside as the teacher. Targets are not standardised. Tokens are compared on the larger
    grid, bilinearly, and both distances have the weight 1.

    Args:
        layer, teacher_layer, summary: Arguments of [`eupe`].
    """
    return {
        "patch": {
            "weight": 1.0,
            "layer": layer,
            "teacher_layer": teacher_layer,
            "hidden_dim": "teacher",
            "statistics": "none",
            "summary": summary,
            "summary_weight": 1.0,
            "grid": "larger",
            "interpolation": "bilinear",
        }
    }


def lightly(*, layer: int = -1, teacher_layer: int = -1) -> dict[str, Any]:
    """
    Return the objective of [lightly-train](https://docs.lightly.ai/train), its third distillation method.

    Images are compared with those of the batch, places with those of the image. Both temperatures are 0.07, both
    weights 1. The authors mix the images of a batch besides.

    Args:
        layer, teacher_layer (`int`, *optional*, defaults to -1): Entries of the `hidden_states`.
    """
    return {
        "inter_image": {"weight": 1.0, "temperature": 0.07},
        "relation": {
            "weight": 1.0,
            "level": "tokens",
            "layer": layer,
            "teacher_layer": teacher_layer,
            "form": "kl",
            "temperature": 0.07,
            "head": True,
            "grid": "teacher",
        },
    }


OBJECTIVES: dict[str, Callable[..., Mapping[str, Mapping[str, Any]]]] = {
    "clip_kd": clip_kd,
    "tinyclip": tinyclip,
    "mobileclip": mobileclip,
    "eupe": eupe,
    "am_radio": am_radio,
    "lightly": lightly,
}
