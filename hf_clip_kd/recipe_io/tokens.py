"""Tokens of the Hub, which no file, log or message may show."""

from __future__ import annotations

import os
import re

_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{30,}")
_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def holds_token(text: str) -> bool:
    """Return whether a text holds a token of the Hub, by its form or as the one in the environment."""
    return without_tokens(text) != text


def without_tokens(text: str) -> str:
    """Return a text with `<token>` in the place of every token of the Hub."""
    for name in _VARIABLES:
        token = os.environ.get(name, "").strip()
        # The second form is that of an error which shows a header.
        for form in (token, repr(token)[1:-1]) if token else ():
            text = text.replace(form, "<token>")
    return _TOKEN.sub("<token>", text)
