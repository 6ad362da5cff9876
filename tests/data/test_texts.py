"""Texts that are read, and those that are refused with a reason."""

import pytest

from hf_clip_kd.data.reading.images import BrokenImageError
from hf_clip_kd.data.texts import MAX_CAPTION, half_character, text_fault, usable_captions


@pytest.mark.parametrize("text", ["a", "é", "e\u0301", "😀", "שלום", "nul\x00", "<|endoftext|>", "A" * MAX_CAPTION])
def test_texts_that_are_read(text):
    assert text_fault(text) is half_character(text) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is empty"),
        ("\u2003\n", "is empty"),
        ("A" * (MAX_CAPTION + 1), "has 10,001 characters: more than 10,000"),
        ("an emoji \ud83d", "holds half a character (U+D83D at position 9)"),
        ("\ude00 first", "holds half a character (U+DE00 at position 0)"),
    ],
)
def test_texts_that_are_refused(text, fault):
    assert text_fault(text) == fault
    assert usable_captions(["a red circle", text], "caption") == ["a red circle"]
    with pytest.raises(BrokenImageError, match="caption"):
        usable_captions([text], "caption")
