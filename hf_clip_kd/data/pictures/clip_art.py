"""Clip art of Debian's openclipart: pictures of one package, titles and keywords in the SVGs of another."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from ...recipe_io.foreign import ForeignFileError
from .picture import Picture, captions_of, category_of, words

# Spirographs, gradients, copies.
_LEFT_OUT = ("shapes/stars/", "special/gradients/", "special/examples/", "unsorted/duplicates/")
_CATEGORIES = {
    "signs_and_symbols/flags": "flags",
    "people/clothing": "clothes",
    "animals": "animals",
    "buildings": "buildings",
    "computer": "computer",
    "food": "food",
    "geography": "maps",
    "people": "people",
    "plants": "plants",
    "recreation": "recreation",
    "signs_and_symbols": "signs",
    "tools": "tools",
    "transportation": "vehicles",
}
# Titles of whole collections say nothing of a picture.
_COLLECTION = re.compile(
    r"\b(cliparts?|collection|icons?|iconset|library|maps|road signs|svg|theme|various|r\d+)\b|\.(png|svg)$", re.I
)
_MOST_PICTURES = 12
# Keywords that say nothing.
_EMPTY = re.compile(r"hash\b|(unsorted|signs and symbols|icons?|theme|symbol|sign|clip ?art|png|svg|special)$")
_LENGTHS = range(3, 81)


def clip_art(pictures: Path, titles: Path) -> Iterator[Picture]:
    """
    Read openclipart 0.18.

    A picture's name is its title. A title may name a collection or the author, or be that of more than 12 pictures.
    Then the name is that of the file, without the author.

    Args:
        pictures (`Path`): Folder of the package openclipart-png.
        titles (`Path`): Folder of the package openclipart-svg.

    Raises:
        ForeignFileError: if an SVG is no XML.
    """
    pngs, svgs = (folder / "usr/share/openclipart" for folder in (pictures, titles))
    works = {}
    for svg in sorted((svgs / "svg").rglob("*.svg")):
        stem = svg.relative_to(svgs / "svg").with_suffix("").as_posix()
        if not stem.startswith(_LEFT_OUT) and (pngs / "png" / f"{stem}.png").is_file():
            works[stem] = _metadata(svg)
    shared = Counter(work.findtext("{*}title", "") for work in works.values())
    for stem, work in works.items():
        title = work.findtext("{*}title", "")
        author = words(work.findtext("{*}creator//{*}title", ""))
        if words(title) in ("", author) or _COLLECTION.search(title) or shared[title] > _MOST_PICTURES:
            title = _without(author, Path(stem).name)
        name = words(title)
        if len(name) not in _LENGTHS:
            continue
        keywords = [words(item.text or "") for item in work.iterfind("{*}subject//{*}li")]
        yield Picture(
            f"clipart/{stem}.png",
            name,
            captions_of(name, [word for word in keywords if not _EMPTY.match(word) and word != author]),
            _licence(work),
            pngs / "png" / f"{stem}.png",
            category=category_of(stem, _CATEGORIES),
        )


def _metadata(svg: Path) -> ElementTree.Element:
    """Return the element of an SVG's RDF that describes the picture, or an empty one."""
    try:
        work = ElementTree.parse(svg).getroot().find(".//{*}Work")
    except ElementTree.ParseError as error:
        fix = "Unpack the package openclipart-svg anew."
        raise ForeignFileError(svg, f"it is no XML ({error})", allowed="It must be an SVG.", fix=fix) from error
    return ElementTree.Element("Work") if work is None else work


def _without(author: str, file_name: str) -> str:
    """Return the words of a file's name without those of the author, which may be cut off."""
    parts = author.split()
    return " ".join(
        word for word in words(file_name).split() if len(word) < 3 or not any(part.startswith(word) for part in parts)
    )


def _licence(work: ElementTree.Element) -> str:
    found = " ".join(value for item in work.iterfind("{*}license") for value in item.attrib.values())
    return "public domain" if "publicdomain" in found.lower() else found or "not stated"
