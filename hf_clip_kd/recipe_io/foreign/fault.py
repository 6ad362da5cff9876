"""Error of a file that somebody else wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_KINDS = {dict: "a dict", list: "a list", str: "a text", int: "a number", float: "a number", bool: "true or false"}


class ForeignFileError(ValueError):
    """
    Fault of a file that somebody else wrote.

    The message names the file, the line or the sample, what is wrong, what is allowed, and the fix.

    Args:
        path (`str` or `Path`): File, or the whole message if it is the only argument.
        problem (`str`): Words that say what is wrong, without a period.
        allowed (`str`): Sentence that says what the file must hold.
        fix (`str`): Sentence that says what to do.
        where (`str`, *optional*): Place in the file: `"line 3"`, `"question 'a'"`.
    """

    def __init__(self, path: str | Path, problem: str | None = None, *, allowed: str = "", fix: str = "", where=""):
        # A worker's error arrives as its message alone: pickle and torch make it anew from that.
        if problem is None:
            super().__init__(path)
            return
        place = f"{path}, {where}" if where else str(path)
        super().__init__(" ".join(part for part in (f"{place}: {problem}.", allowed, fix) if part))


def kind_of(value: Any) -> str:
    """Return the words for the type of a JSON value: `"a list"`, `"null"`."""
    return "null" if value is None else _KINDS.get(type(value), f"a {type(value).__name__}")
