"""Fields of a record that somebody else wrote, each of the type that its reader needs."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from textwrap import shorten
from typing import Any, get_args, get_origin

from .fault import ForeignFileError, kind_of

_WHOLE_NUMBER = re.compile(r"\s*-?\d{1,99}\s*")
_WORDS = {str: "a text", int: "a whole number", float: "a number", dict: "a dict", list: "a list", bytes: "bytes"}


class FieldError(ValueError):
    """Value of the wrong type. The message has only the words: `"is a text ('red'), not a list"`."""


def fields(row: Any, kinds: dict[str, Any], path: str | Path, *, where: str, allowed: str, fix: str) -> list[Any]:
    """
    Return the fields of a record in the order of `kinds`.

    Args:
        row: Record, from JSON, YAML or a table.
        kinds (`dict`): Name of each field to its type, as [`convert`] takes it. A field of type `X | None` may lack.
        path (`str` or `Path`): File of the record, for errors.
        where (`str`): Place of the record in the file, for errors: `"question 3"`.
        allowed, fix (`str`): As in [`read_text`].

    Raises:
        ForeignFileError: The record is no mapping, or a field is missing or of another type.
    """
    words = {"allowed": allowed, "fix": fix}
    if not isinstance(row, dict):
        raise ForeignFileError(path, f"{where} is {kind_of(row)}, not a dict with {list(kinds)}", **words)
    if missing := [name for name, kind in kinds.items() if name not in row and not _optional(kind)]:
        raise ForeignFileError(path, f"{where} has no {missing}", **words)
    values = []
    for name, kind in kinds.items():
        try:
            values.append(convert(row.get(name), kind))
        except FieldError as error:
            raise ForeignFileError(path, f"`{name}` of {where} {error}", **words) from error
    return values


def convert(value: Any, kind: Any) -> Any:
    """
    Return a value as the type that its reader needs, if nothing is lost.

    A number becomes its text. The text of a whole number becomes the number.

    Args:
        value: Value from JSON, YAML or a table.
        kind: `str`, `int`, `float`, `dict`, `list`, `list[KIND]`, `bytes`, a union such as
            `str | int`, or `KIND | None`.

    Raises:
        FieldError: The value is of another type.
    """
    if isinstance(kind, types.UnionType):
        parts = get_args(kind)
        if type(value) in parts or (value is None and types.NoneType in parts):
            return value
        return convert(value, parts[0])
    plain = get_origin(kind) or kind
    if isinstance(value, plain) and not isinstance(value, bool):
        made = value
    elif plain is str and _is_finite(value):
        made = str(value)
    elif plain is float and isinstance(value, int) and _is_finite(value):
        made = value
    elif plain is int and isinstance(value, float) and value.is_integer():
        made = int(value)
    elif plain is int and isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value):
        made = int(value)
    else:
        raise FieldError(f"is {kind_of(value)} ({shorten(repr(value), 60)}), not {_words(kind)}")
    if get_args(kind):
        made = [_item(item, i, get_args(kind)[0]) for i, item in enumerate(made)]
    return made


def _is_finite(value: Any) -> bool:
    # JSON has whole numbers of any length, and `math.isfinite` raises an error for those that no float can hold.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _item(value: Any, position: int, kind: Any) -> Any:
    try:
        return convert(value, kind)
    except FieldError as error:
        raise FieldError(f"has an item {position} that {error}") from error


def _optional(kind: Any) -> bool:
    return isinstance(kind, types.UnionType) and types.NoneType in get_args(kind)


def _words(kind: Any) -> str:
    return _WORDS[get_origin(kind) or kind]
