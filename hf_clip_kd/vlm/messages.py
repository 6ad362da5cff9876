"""Check of a conversation before it becomes tokens."""

from __future__ import annotations

from ..data.texts import half_character
from .sample_counts import BadSampleError

_ROLES = ("system", "user", "assistant")


def check_messages(messages: list[dict[str, str]], num_images: int, token: str, name: str) -> None:
    """Refuse a sample with unknown turns or no answer, or with unequal numbers of images and `<image>`."""
    roles = [message["role"] for message in messages]
    if not roles or any(role not in _ROLES for role in roles):
        raise BadSampleError(
            "no conversation",
            f"The sample {name!r} has turns of {roles}. They must be of {', '.join(map(repr, _ROLES))}, and at least "
            "one of 'assistant'. Repair or remove it.",
        )
    if not any(m["role"] == "assistant" and m["content"].replace(token, "").strip() for m in messages):
        raise BadSampleError(
            "nothing supervised",
            f"The sample {name!r} has no answer to learn: no text of an assistant. At least one turn must have some. "
            "Repair or remove it.",
        )
    if fault := next(filter(None, (half_character(message["content"]) for message in messages)), None):
        raise BadSampleError(
            "half a character",
            f"The text of the sample {name!r} {fault}. A text must be written in whole characters. Repair or remove "
            "it.",
        )
    markers = sum(message["content"].count(token) for message in messages)
    if markers == num_images:
        return
    reason = f"{'more' if markers > num_images else 'fewer'} image tokens than images"
    if not num_images:
        reason = "image token in a text-only sample"
    raise BadSampleError(
        reason,
        f"The sample {name!r} has {markers} {token} in its text and {num_images} images ({reason}). Each {token} "
        "stands for one image. Add or remove one of them.",
    )


__all__ = ["check_messages"]
