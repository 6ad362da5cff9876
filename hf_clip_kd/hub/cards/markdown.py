"""Values as Markdown: whatever a template prints is escaped, unless we wrote it as Markdown ourselves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import jinja2

_TOKEN = re.compile(r"hf_[A-Za-z0-9]{16,}")
# Underscores within a word are letters to the Hub's Markdown.
_SPECIAL = re.compile(r"([\\`*{}\[\]#|~$@]|(?<![^\W_])_|_(?![^\W_]))")
_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


class Markdown(str):
    """Text that is Markdown already."""


def plain(value: Any) -> str:
    """One line of printable characters, without anything that looks like an access token of the Hub."""
    line = " ".join(str(value).split())
    return _TOKEN.sub("hf_...", "".join(character for character in line if character.isprintable()))


def public(name: Any) -> str:
    """Return a name as a card may show it: of a path that leads out of the working folder, only its end."""
    text = plain(name)
    prefix, _, path = text.rpartition(":") if text.startswith("open_clip:") else ("", "", text)
    if prefix and "//" in path:  # open_clip:ARCHITECTURE//a/checkpoint.pt
        architecture, _, path = path.partition("//")
        return f"{prefix}:{architecture}//{PurePosixPath(path).name}"
    parts = PurePosixPath(text.replace("\\", "/"))
    private = parts.is_absolute() or text.startswith("~") or ".." in parts.parts or re.match(r"\w+:[\\/]", text)
    return parts.name if private else text


def escape(value: Any) -> Markdown:
    """Text that Markdown shows as it is."""
    return Markdown(_SPECIAL.sub(r"\\\1", plain(value)).translate(_HTML))


def code(value: Any) -> Markdown:
    """Return a code span, also of text with backticks."""
    text = plain(value)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return Markdown(f"{fence}{space}{text}{space}{fence}")


def link(text: str, address: str) -> Markdown:
    return Markdown(f"[{printed(text)}]({address})")


def table(header: Sequence[Any], rows: Sequence[Sequence[Any]]) -> Markdown:
    """Return a table; its cells are escaped as everything else is, a bar within one does not end it, and numbers stand right."""
    cells = [[re.sub(r"(?<!\\)\|", r"\\|", printed(cell)) for cell in row] for row in [header, *rows]]
    numeric = [all(re.match(r"–|-?\d", cell) for cell in column) for column in zip(*cells[1:], strict=True)]
    lines = [cells[0], ["---:" if right else "---" for right in numeric], *cells[1:]]
    return Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))


def printed(value: Any) -> str:
    """Return what a template prints for a value."""
    if isinstance(value, Markdown):
        return value
    return f"{value:.6g}" if isinstance(value, float) else escape(value)


def count(number: float) -> str:
    """12345678 as `12.3 M`."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.3g}"


def environment(folder: str) -> jinja2.Environment:
    """
    Render the templates in a folder of `hf_clip_kd`. What they print is escaped, unless we wrote it as Markdown
    ourselves; a name that has no value is an error.
    """
    return jinja2.Environment(
        loader=jinja2.PackageLoader("hf_clip_kd", folder),
        finalize=printed,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
