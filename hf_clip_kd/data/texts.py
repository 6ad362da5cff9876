"""Texts that no model is given: the one rule of training, evaluation and caches."""

from __future__ import annotations

MAX_CAPTION = 10_000
"""Longest caption, in characters. A longer text is a page and takes longer to tokenize than its image to read."""


def text_fault(text: str) -> str | None:
    """Return what is wrong with a text for a dual encoder, as the end of a sentence, or `None`."""
    if not text.strip():
        return "is empty"
    if len(text) > MAX_CAPTION:
        return f"has {len(text):,} characters: more than {MAX_CAPTION:,}"
    return half_character(text)


def half_character(text: str) -> str | None:
    """
    Return what is wrong with a text that no tokenizer reads, as the end of a sentence, or `None`.

    JSON can write half of a surrogate pair (an emoji that was cut in two), which is no character.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"holds half a character (U+{ord(text[error.start]):04X} at position {error.start})"
    return None


__all__ = ["MAX_CAPTION", "half_character", "text_fault"]
