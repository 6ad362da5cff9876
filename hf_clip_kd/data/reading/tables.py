"""Readers for tables of text: CSV, TSV and JSON. Cells stay as they stand in the file, and a fault costs one row."""

from __future__ import annotations

import csv
import io
import itertools
import json
import logging
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

from .cells import short
from .tars import ERROR, Joined

logger = logging.getLogger(__name__)

DELIMITERS = "\t,;|"
"""Delimiters that a header is searched for, in this order. open_clip writes tabs into files named .csv."""

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_MAX_QUOTED_LINES = 1000
_OPEN, _WRONG = "open", "wrong"  # A quote that is not closed yet, and text behind a closed one.
csv.field_size_limit(2**31 - 1)  # A picture in base64 is longer than the default.


def read_csv(
    file: BinaryIO, name: str, *, delimiter: str | None = None, encoding: str | None = None
) -> Iterator[dict[str, str]]:
    """Yield the rows of a table with a header. All cells are text.

    A quote that no other quote closes is an ordinary character, as in `a 6" pipe`. A quoted cell may have several
    lines. A line that has all cells of a row, though, is a row of its own.

    Args:
        file (binary file): Table, read once from start to end.
        name (`str`): Name of the file, for messages.
        delimiter (`str`, *optional*): Character between cells. The default is the one that the header has.
        encoding (`str`, *optional*): The default is UTF-16 if the file says so, else UTF-8.

    Yields:
        `dict`: the cells by column, and `__key__` and `__error__` for a row with too many cells.

    Raises:
        ValueError: if the file has no header.
    """
    start = file.read(2)
    raw = Joined(start, file)
    encoding = encoding or ("utf-16" if start in _UTF16 else "utf-8-sig")
    lines = io.TextIOWrapper(raw, encoding, errors="replace", newline=None)
    header = next((line for line in lines if line.strip()), None)
    if header is None:
        raise ValueError(f"{name!r} has no header line")
    delimiter = delimiter or next((mark for mark in DELIMITERS if mark in header), ",")
    cells = _cells(header, delimiter)
    cells = _plain(header, delimiter) if isinstance(cells, str) else cells
    names = [cell.strip() or f"Unnamed: {i}" for i, cell in enumerate(cells)]
    names = [name if names.index(name) == i else f"{name}.{i}" for i, name in enumerate(names)]
    odd = False
    for number, cells in _records(_Ahead(lines), delimiter, len(names)):
        if not odd and any("\ufffd" in cell for cell in cells):
            odd = True
            what = "%s, line %d is not %s. Pass `encoding=...`, or store the file as UTF-8."
            logger.warning(what, name, number, encoding.removesuffix("-sig"))
        if not any(cells[len(names) :]):
            yield dict(zip(names, cells, strict=False))
            continue
        reason = f"it has {len(cells)} cells and the header {len(names)}: {short(delimiter.join(cells))}"
        yield {"__key__": f"{name}, line {number}", ERROR: reason}


def read_json(file: BinaryIO, name: str, *, field: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a JSON file: one object a line, or a list of objects.

    Args:
        file (binary file): The file, read once from start to end.
        name (`str`): Name of the file, for messages.
        field (`str`, *optional*): Field of the file's only object that holds the rows.

    Yields:
        `dict`: the fields of an object, and `__key__` and `__error__` for a line that is no object.

    Raises:
        ValueError: if the file is neither JSON nor lines of JSON.
    """
    first = file.readline()
    if first.startswith(_UTF16):
        file = io.BytesIO((first + file.read()).decode("utf-16").encode())
        first = file.readline()
    first = first.removeprefix(b"\xef\xbb\xbf")
    while first.isspace():
        first = file.readline()
    in_list = first.lstrip().startswith(b"[")
    if field is not None or in_list or not _is_json(first):
        rest = file.read()
        try:
            rows = json.loads(first + rest)
        except (ValueError, RecursionError) as error:
            if field is not None or (in_list and not _is_json(first)):
                raise ValueError(f"{name!r} is not JSON: {error}") from error
            file = io.BytesIO(rest)  # The first line is damaged.
        else:
            rows = rows if field is None else rows[field]
            for number, row in enumerate(rows if isinstance(rows, list) else [rows]):
                yield _object(row, f"{name}, sample {number}")
            return
    for number, line in enumerate(itertools.chain([first], file), start=1):
        if line.strip():
            key = f"{name}, line {number}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield {"__key__": key, ERROR: f"the line is not JSON: {error}"}
            else:
                yield _object(row, key)


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _object(row: Any, key: str) -> dict[str, Any]:
    if isinstance(row, dict):
        return row
    if isinstance(row, str):  # A list of captions.
        return {"text": row}
    return {"__key__": key, ERROR: f"it is no object with fields: {short(row)}"}


def _records(lines: _Ahead, delimiter: str, width: int) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the first line of each row, and its cells."""
    for line in lines:
        if not line.strip():
            continue
        number, text, taken = lines.number, line, 0
        cells = _cells(text, delimiter)
        while cells == _OPEN and taken < _MAX_QUOTED_LINES:
            following = lines.peek(taken)
            if following is None or _is_row(following, line, delimiter, width):
                break
            text, taken = text + following, taken + 1
            cells = _cells(text, delimiter) if '"' in following else _OPEN
        if cells in (_OPEN, _WRONG):
            yield number, _plain(line, delimiter)
            continue
        lines.skip(taken)
        yield number, cells


def _cells(text: str, delimiter: str) -> list[str] | str:
    """Return the cells of a whole row by the rules of quotes, or the reason why they do not fit."""
    if '"' not in text:
        return _plain(text, delimiter)
    try:
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        return _OPEN if "end of data" in str(error) else _WRONG


def _plain(line: str, delimiter: str) -> list[str]:
    return line.rstrip("\n").split(delimiter)


def _is_row(line: str, opening: str, delimiter: str, width: int) -> bool:
    """Return whether a line after an open quote is a row. It has all cells, and one ends as above, such as `.png`."""
    if line.count(delimiter) < width - 1:
        return False
    if delimiter == "\t":
        return True
    endings = {os.path.splitext(cell)[1] for cell in _plain(opening, delimiter)} - {""}
    cells = _plain(line, delimiter)
    return len(cells) >= width and any(os.path.splitext(cell)[1] in endings for cell in cells)


class _Ahead:
    """Lines with a look at those that follow."""

    def __init__(self, lines: Iterator[str]):
        self.lines, self.ahead, self.number = lines, [], 1

    def __iter__(self) -> Iterator[str]:
        while (line := self.peek(0)) is not None:
            self.skip(1)
            yield line

    def peek(self, distance: int) -> str | None:
        while len(self.ahead) <= distance:
            line = next(self.lines, None)
            if line is None:
                return None
            self.ahead.append(line)
        return self.ahead[distance]

    def skip(self, count: int) -> None:
        del self.ahead[:count]
        self.number += count
