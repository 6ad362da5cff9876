"""Values as Markdown: templates escape all that they print, except [`Markdown`]."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import jinja2

from ...models.names import LIBRARIES, parse_name
from ...recipe_io.tokens import without_tokens

# The Hub's Markdown reads underscores within a word as letters.
_SPECIAL = re.compile(r"([\\`*{}\[\]#|~$@]|(?<![^\W_])_|_(?![^\W_]))")
_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


class Markdown(str):
    """Text that is already Markdown."""


def plain(value: Any) -> str:
    """Return one line of printable characters, without a token of the Hub."""
    line = " ".join(str(value).split())
    return without_tokens("".join(character for character in line if character.isprintable()))


def public(name: Any) -> str:
    """Return a name that a card may show; a path outside the working folder is cut to its end."""
    text = plain(name)
    prefix, _, path = text.rpartition(":") if parse_name(text).kind in LIBRARIES else ("", "", text)
    if prefix and "//" in path:  # open_clip:ARCHITECTURE//a/checkpoint.pt
        architecture, _, path = path.partition("//")
        return f"{prefix}:{architecture}//{PurePosixPath(path).name}"
    parts = PurePosixPath(text.replace("\\", "/"))
    private = parts.is_absolute() or text.startswith("~") or ".." in parts.parts or re.match(r"\w+:[\\/]", text)
    return parts.name if private else text


def escape(value: Any) -> Markdown:
    """Return text that Markdown shows literally."""
    return Markdown(_SPECIAL.sub(r"\\\1", plain(value)).translate(_HTML))


def code(value: Any) -> Markdown:
    """Return a code span; the text may hold backticks."""
    text = plain(value)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return Markdown(f"{fence}{space}{text}{space}{fence}")


def link(text: str, address: str) -> Markdown:
    return Markdown(f"[{printed(text)}]({address})")


def table(header: Sequence[Any], rows: Sequence[Sequence[Any]]) -> Markdown:
    """Return a table with escaped cells, numeric columns aligned to the right."""
    cells = [[re.sub(r"(?<!\\)\|", r"\\|", printed(cell)) for cell in row] for row in [header, *rows]]
    numeric = [all(re.match(r"–|-?\d", cell) for cell in column) for column in zip(*cells[1:], strict=True)]
    lines = [cells[0], ["---:" if right else "---" for right in numeric], *cells[1:]]
    return Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))


def printed(value: Any) -> str:
    """Return the text that a template prints for a value."""
    if isinstance(value, Markdown):
        return value
    return f"{value:.6g}" if isinstance(value, float) else escape(value)


def count(number: float) -> str:
    """Return a number with three digits and a unit, 12345678 as `12.3 M`."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.3g}"


def environment(folder: str) -> jinja2.Environment:
    """
    Return an environment for the templates in a folder of `hf_clip_kd`.

    It escapes what templates print, except [`Markdown`]. An unknown name is an error.
    """
    return jinja2.Environment(
        loader=jinja2.PackageLoader("hf_clip_kd", folder),
        finalize=printed,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
