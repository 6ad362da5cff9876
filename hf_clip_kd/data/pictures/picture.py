"""Picture with its name, and the words that a title or a file's name holds."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from ...recipe_io.foreign import ForeignFileError

SVG_WIDTH = 144
"""Width at which drawings in SVG are painted, in pixels. It is that of most pictures that are no SVG."""


@dataclass(frozen=True)
class Picture:
    """
    Picture of a package, as the package holds it.

    Attributes:
        file (`str`):
            Path below the folder of a set: `SOURCE/...`.
        name (`str`):
            What the picture shows, in lower case. Pictures of one name are held out together.
        captions (`tuple[str, ...]`):
            Sentences or words for the picture. The last is the fullest.
        licence (`str`):
            Licence of the picture, as its package states it.
        packaged (`Path` or `bytes`):
            File of the package, or its content. An SVG is a path.
        category (`str`):
            Kind of the thing, such as `"animals"`. It is empty if the package tells none.
        photograph (`bool`):
            Whether the picture is a photograph and no drawing.
    """

    file: str
    name: str
    captions: tuple[str, ...]
    licence: str
    packaged: Path | bytes
    category: str = ""
    photograph: bool = False

    @property
    def source(self) -> str:
        """Name of the collection."""
        return self.file.partition("/")[0]

    def content(self) -> bytes:
        """Return the bytes that the package holds."""
        return self.packaged if isinstance(self.packaged, bytes) else self.packaged.read_bytes()

    def digest(self) -> str:
        """Return the SHA-256 of the bytes that the package holds."""
        return hashlib.sha256(self.content()).hexdigest()

    def encoded(self) -> bytes:
        """Return the bytes of a picture file: those of the package, or a PNG of its SVG."""
        if isinstance(self.packaged, Path) and self.packaged.suffix == ".svg":
            import resvg_py  # An optional dependency, which only drawing needs.

            return bytes(resvg_py.svg_to_bytes(svg_path=str(self.packaged), width=SVG_WIDTH))
        return self.content()


def damaged(file: str | Path, error: Exception) -> ForeignFileError:
    """Return the error of a picture that cannot be read."""
    form = "It must be a picture, whole."
    return ForeignFileError(file, f"it cannot be read ({error})", allowed=form, fix="Unpack its package anew.")


def words(text: str) -> str:
    """Return the words of a title or a file's name in lower case: `bigBlue_cat-01` is `big blue cat`."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z])|[^\w']|_", " ", text)
    found = (re.sub(r"(?<=\D)\d+$", "", word) for word in text.lower().split())
    return " ".join(word for word in found if not word.isdigit())


def captions_of(name: str, others: list[str]) -> tuple[str, ...]:
    """Return the name, and the name with at most four other words that it does not hold."""
    others = [word for word in dict.fromkeys(others) if word and word not in name][:4]
    return (name, f"{name}, {', '.join(others)}") if others else (name,)


def category_of(place: str, categories: dict[str, str]) -> str:
    """Return the category of a place such as `animals/birds/owl`: that of the first entry that begins it."""
    return next((category for start, category in categories.items() if place.startswith(start)), "")
