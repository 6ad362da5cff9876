"""Cells of a row. Each cell alone tells what it holds: an image as bytes or as a path, one caption or several."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote, unquote_to_bytes, urlsplit

Locate = Callable[[str], str]

# No path is so long without a dot, a blank or a dash.
_BASE64 = re.compile(r"[A-Za-z0-9+/\r\n]{100,}={0,2}\s*")
_SHOWN = 60


class CellError(ValueError):
    """Cell that holds no image or no caption. The message names the reason. Only its row is lost."""


def picked(row: dict[str, Any], names: Iterable[str]) -> tuple[str | None, Any]:
    """
    Return the first of the columns that this row has, and its cell.

    Args:
        row (`dict`): Cells by their column.
        names (`Iterable[str]`): Columns in the order of preference. `"json.caption"` is a field of a nested cell.

    Returns:
        `tuple`: the name and the cell, or `(None, None)` if the row has none of them.
    """
    for name in names:
        if row.get(name) is not None:
            return name, row[name]
        head, _, tail = name.partition(".")
        if tail and isinstance(row.get(head), dict):
            name_below, cell = picked(row[head], [tail])
            if name_below is not None:
                return name, cell
    return None, None


def image_cell(value: Any, locate: Locate = str) -> dict[str, Any] | None:
    """
    Return an undecoded image, as `datasets.Image(decode=False)` has it.

    Args:
        value (`str`, `bytes`, `dict`, `list` or `None`):
            A path or address, bytes, base64, a `data:` or `file:` URI, or a `dict` with `bytes` or `path`. A list may
            hold one of them.
        locate (`Callable`, *optional*): Function that makes a path absolute.

    Returns:
        `dict` with `bytes` and `path`, or `None` for an empty cell.

    Raises:
        CellError: if the cell holds something else.
    """
    if isinstance(value, list) and len(value) <= 1:
        value = value[0] if value else None
    if value is None or value == "":
        return None
    if isinstance(value, dict) and {"bytes", "path"} >= set(value):
        held, path = value.get("bytes"), value.get("path")
        if held is None:
            return image_cell(path, locate)
        held = _from_base64(held) if isinstance(held, str) else held
        return {"bytes": held, "path": path}
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": bytes(value), "path": None}
    if not isinstance(value, str):
        raise CellError(f"the image is a {type(value).__name__}: {short(value)}")
    if value[:5].lower() == "data:":
        return {"bytes": _from_data_uri(value), "path": None}
    if value[:5].lower() == "file:":
        return {"bytes": None, "path": unquote(urlsplit(value).path)}
    if _BASE64.fullmatch(value):
        return {"bytes": _from_base64(value), "path": None}
    return {"bytes": None, "path": locate(value)}


def caption_cell(value: Any) -> str | list[str | None] | None:
    """
    Return one caption or several. Numbers become text.

    Args:
        value (`str`, `int`, `float`, `bool`, `bytes`, `list` or `None`): The cell, or a list of such cells.

    Raises:
        CellError: if the cell holds something else, or a text that is no Unicode.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_text(item) for item in value]
    return _text(value)


def short(value: Any) -> str:
    """Return a cell in at most 60 characters and its length, for messages."""
    text = value if isinstance(value, str) else repr(value)
    text = text.encode(errors="replace").decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text):,} characters)"


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


def locator(folder: str | None) -> Locate:
    """
    Return the function that makes the paths of one file absolute, each path for itself.

    A relative path starts from `folder`, the folder of the file. It starts from the working directory, as for
    open_clip, if a picture lies there and none in `folder`.

    Args:
        folder (`str`, *optional*): The folder. Without it all paths stay as they are.
    """
    if folder is None:
        return str
    here = os.getcwd()
    listed: dict[str, frozenset[str]] = {}

    def locate(path: str) -> str:
        if "://" in path or os.path.isabs(path):
            return path
        inside = os.path.join(folder, path)
        if folder == here:
            return inside
        # One listing of a directory replaces a look at each of its pictures, which is slow on a network disk.
        directory, name = os.path.split(os.path.join(here, path))
        if directory not in listed:
            listed[directory] = frozenset(os.listdir(directory) if os.path.isdir(directory) else ())
        return os.path.join(here, path) if name in listed[directory] and not os.path.exists(inside) else inside

    return locate


def _text(value: Any) -> str | None:
    if isinstance(value, (bytes, bytearray)):
        value = bytes(value).decode(errors="replace")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return None if value != value else repr(value).removesuffix(".0")
    if value is None or isinstance(value, str):
        if half_character(value or ""):
            raise CellError(f"the caption holds half of a surrogate pair, which is no Unicode: {short(value)}")
        return value
    raise CellError(f"the caption is a {type(value).__name__}: {short(value)}")


def _from_data_uri(uri: str) -> bytes:
    kind, comma, contents = uri.partition(",")
    if not comma:
        raise CellError(f"the image is a `data:` URI without contents: {short(uri)}")
    return _from_base64(unquote(contents)) if kind.endswith(";base64") else unquote_to_bytes(contents)


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise CellError(f"the image is damaged base64 ({error}): {short(text)}") from error
