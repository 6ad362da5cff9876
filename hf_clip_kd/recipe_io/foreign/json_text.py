"""JSON, and files with one JSON value on each line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from textwrap import shorten
from typing import Any

from .fault import ForeignFileError, kind_of
from .text import line_of, read_lines, read_text

HALF_PAIR = re.compile("[\ud800-\udfff]")
ESCAPED_HALF = re.compile(r"\\u[dD][89a-fA-F]")
HALF_PAIR_PROBLEM = "has half of a surrogate pair in a text, which no file can hold"
_BETWEEN = re.compile(r"[\s,]*")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|NaN|-?Infinity')


def read_json(path: str | Path, kind: type | tuple[type, ...] = dict, *, allowed: str, fix: str) -> Any:
    """
    Read a JSON file.

    Args:
        path (`str` or `Path`): File.
        kind (`type` or tuple of types, *optional*, defaults to `dict`): Types that the whole content may have.
        allowed, fix (`str`): As in [`read_text`].

    Raises:
        ForeignFileError: As in [`read_text`] and [`parse_json`], or the content is of another type.
    """
    content = parse_json(read_text(path, allowed=allowed, fix=fix), path, allowed=allowed, fix=fix)
    if not isinstance(content, kind):
        kinds = " or ".join(kind_of(each()) for each in (kind if isinstance(kind, tuple) else (kind,)))
        raise ForeignFileError(path, f"it holds {kind_of(content)}, not {kinds}", allowed=allowed, fix=fix)
    return content


def read_json_lines(path: str | Path, *, allowed: str, fix: str) -> Iterator[tuple[int, Any]]:
    """
    Read a file with one JSON value on each line.

    Yields:
        The number of the line, from 1, and its value. Empty lines are left out.

    Raises:
        ForeignFileError: As in [`read_text`] and [`parse_json`]. The message names the line.
    """
    return _values(enumerate(read_lines(path, allowed=allowed, fix=fix), start=1), path, allowed, fix)


def read_json_samples(path: str | Path, *, allowed: str, fix: str) -> Iterator[Any]:
    """
    Read samples from a JSON list, or from one JSON value on each line. The ending of the file's name does not matter.

    Raises:
        ForeignFileError: As in [`read_json`] and [`read_json_lines`].
    """
    lines = enumerate(read_lines(path, allowed=allowed, fix=fix), start=1)
    first = next(((number, line) for number, line in lines if _stripped(line)), (1, ""))
    if _stripped(first[1]).startswith("["):
        yield from read_json(path, list, allowed=allowed, fix=fix)
    else:
        yield from (value for _, value in _values(chain([first], lines), path, allowed, fix))


def parse_json(text: str, path: str | Path, *, allowed: str, fix: str, where: str = "") -> Any:
    """
    Parse the text of a file as JSON.

    Args:
        text (`str`): JSON, from [`read_text`] or [`decode`].
        path (`str` or `Path`): File that holds the text, for errors.
        allowed, fix (`str`): As in [`read_text`].
        where (`str`, *optional*): Place of the text in the file, for errors: a line, or the name of a member.

    Raises:
        ForeignFileError:
            The text is empty or no JSON, names a key twice, or nests too deep. JSON has no `NaN` and no `Infinity`. A
            half of a surrogate pair, such as `"\\ud83d"`, is no text: no file can hold it.
    """

    def fault(problem: str, position: int | None = None) -> ForeignFileError:
        line = "" if position is None else f"line {line_of(text, position)}"
        place = where or ", ".join(part for part in (_faulty_sample(text, position), line) if part)
        return ForeignFileError(path, f"{place or 'it'} {problem}", allowed=allowed, fix=fix)

    if not text.strip():
        raise fault("is empty")
    try:
        content = _STRICT.decode(text)
    except json.JSONDecodeError as error:
        raise fault(f"is no JSON ({error.msg})", error.pos) from error
    except RecursionError as error:
        raise fault("nests too deep") from error
    except _ConstantError as error:
        raise fault(f"has {error}, which JSON does not have", _find(text, lambda token: token[0] != '"')) from error
    except _TwiceError as error:
        raise fault(f"has the key {error.args[0]!r} twice, in {shorten(str(error.args[1]), 80)}") from error
    # Python reads no integer of more than 4300 digits.
    except ValueError as error:
        raise fault(f"has a number that is too long ({error})") from error
    # Escaped emoji are whole pairs. The search for a half is slow, so only a text that has a half pays for it.
    if ESCAPED_HALF.search(text) and not _writable(content):
        position = _find(text, lambda token: ESCAPED_HALF.search(token) and HALF_PAIR.search(json.loads(token)))
        raise fault(HALF_PAIR_PROBLEM, position)
    return content


def _writable(content: Any) -> bool:
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _faulty_sample(text: str, position: int | None) -> str:
    """Name the item of a JSON list that holds a position, or else the first one that cannot be read."""
    if not text.lstrip().startswith("["):
        return ""
    number, start = 0, text.index("[") + 1
    while True:
        start = _BETWEEN.match(text, start).end()
        try:
            _, end = _STRICT.raw_decode(text, start)
        except (ValueError, RecursionError, _ConstantError, _TwiceError):
            return f"sample {number}"
        if position is not None and position < end:
            return f"sample {number}"
        number, start = number + 1, end


def _values(lines: Iterator[tuple[int, str]], path: str | Path, allowed: str, fix: str) -> Iterator[tuple[int, Any]]:
    for number, line in lines:
        if line := _stripped(line):
            yield number, parse_json(line, path, where=f"line {number}", allowed=allowed, fix=fix)


def _stripped(line: str) -> str:
    """Strip spaces, and the byte order mark that a line has at its start in a file joined of several."""
    return line.strip(" \t\ufeff")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(next(name for name in names if names.count(name) > 1), made)
    return made


def _no_constant(name: str) -> None:
    raise _ConstantError(name)


class _ConstantError(Exception):
    pass


class _TwiceError(Exception):
    pass


_STRICT = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def _find(text: str, chosen: Callable[[str], Any]) -> int | None:
    """Return the position of the first string or constant of a JSON text that is `chosen`."""
    return next((found.start() for found in _TOKEN.finditer(text) if chosen(found[0])), None)
