"""Texts that no model is given: the one rule of training, evaluation and caches."""

from __future__ import annotations

from typing import Any

from .reading.cells import half_character
from .reading.images import BrokenImageError

MAX_CAPTION = 10_000
"""Longest caption, in characters. A longer text is a page and takes longer to tokenize than its image to read."""


def usable_captions(value: Any, name: str) -> list[str]:
    """Return the usable captions of one cell, which holds one or several.

    Args:
        value (`str` or `list[str]`): The cell.
        name (`str`): Name of the text for errors, such as `"caption"`.

    Raises:
        BrokenImageError: if there is no caption, or none that can be read, see [`text_fault`].
    """
    texts = value if isinstance(value, (list, tuple)) else [value]
    texts = [text for text in texts if isinstance(text, str) and text.strip()]
    if not texts:
        raise BrokenImageError(f"the row has no {name}")
    usable = [text for text in texts if text_fault(text) is None]
    if not usable:
        raise BrokenImageError(f"the {name} {text_fault(texts[0])}")
    return usable


def text_fault(text: str) -> str | None:
    """Return what is wrong with a text for a dual encoder, as the end of a sentence, or `None`."""
    if not text.strip():
        return "is empty"
    if len(text) > MAX_CAPTION:
        return f"has {len(text):,} characters: more than {MAX_CAPTION:,}"
    return half_character(text)


__all__ = ["MAX_CAPTION", "half_character", "text_fault", "usable_captions"]
