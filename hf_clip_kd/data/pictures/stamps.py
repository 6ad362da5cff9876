"""Stamps of Tux Paint: photographs and drawings, each with a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ...recipe_io.foreign import read_text
from .picture import Picture, category_of, damaged

_CATEGORIES = {
    "animals": "animals",
    "clothes": "clothes",
    "food": "food",
    "hobbies": "recreation",
    "household": "tools",
    "people": "people",
    "plants": "plants",
    "seasonal": "recreation",
    "sports": "recreation",
    "town/roadsigns": "signs",
    "town": "buildings",
    "vehicles": "vehicles",
}
_OPAQUE = 250
# Share of equal neighbours. 310 stamps have less, almost all of them photographs, as a look at all stamps shows.
_MOST_EQUAL = 0.06


def stamps(package: Path) -> Iterator[Picture]:
    """
    Read the folder of the package tuxpaint-stamps-default. The caption of a stamp is the first line of its text.

    Raises:
        ForeignFileError: if the text of a stamp is no text, or its picture is damaged.
    """
    folder = package / "usr/share/tuxpaint/stamps"
    for png in sorted(folder.rglob("*.png")):
        text = png.with_suffix(".txt")
        place = png.relative_to(folder).as_posix()
        if not text.is_file() or "/alphabets/" in place:
            continue
        caption = read_caption(text)
        try:
            with Image.open(png) as image:
                photograph = equal_neighbours(image) < _MOST_EQUAL
        except (OSError, SyntaxError) as error:
            raise damaged(png, error) from error
        yield Picture(
            f"stamps/{place}",
            re.sub(r"^(an?|the|some) ", "", caption.rstrip(".!").lower()),
            (caption,),
            "GPL-2",
            png,
            category=category_of(place, _CATEGORIES),
            photograph=photograph,
        )


def read_caption(text: Path) -> str:
    """
    Read the English sentence of a stamp, the first line of its text. Translations follow.

    Raises:
        ForeignFileError: if the file is no text.
    """
    form = "It must be the text of a stamp of Tux Paint."
    content = read_text(text, allowed=form, fix="Unpack the package tuxpaint-stamps-default anew.")
    return content.split("\n")[0].strip()


def equal_neighbours(image: Image.Image) -> float:
    """
    Return the share of opaque pixels that equal their left neighbour, from 0 to 1.

    Hardly any two pixels of a photograph are equal. A drawing has areas of one colour.
    """
    pixels = np.asarray(image.convert("RGBA"))
    left, right = pixels[:, :-1], pixels[:, 1:]
    opaque = (left[..., 3] > _OPAQUE) & (right[..., 3] > _OPAQUE)
    return float((left == right)[..., :3].all(-1)[opaque].mean()) if opaque.any() else 1.0
