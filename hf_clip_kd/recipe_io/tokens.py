"""Tokens of the Hub, which no file, log or message may show."""

from __future__ import annotations

import os
import re

_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{30,}")
_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def holds_token(text: str, token: str | None = None) -> bool:
    """Return whether a text holds a token of the Hub, as [`without_tokens`] finds it."""
    return without_tokens(text, token) != text


def without_tokens(text: str, token: str | None = None) -> str:
    """
    Return a text with `<token>` in the place of every token of the Hub.

    Tokens are known by their form, as those of the environment, and as `token`.
    """
    for known in (token, *(os.environ.get(name, "").strip() for name in _VARIABLES)):
        # The second form is that of an error which shows a header.
        for form in (known, repr(known)[1:-1]) if known else ():
            text = text.replace(form, "<token>")
    return _TOKEN.sub("<token>", text)
