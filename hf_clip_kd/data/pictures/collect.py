"""All pictures of all packages."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from pathlib import Path

from .clip_art import clip_art
from .emoji import emoji
from .gcompris import gcompris
from .picture import Picture
from .stamps import stamps

MAX_ALIKE = 8
"""Number of pictures with the same captions that a source may have."""

SOURCES = {
    "clipart": ("openclipart-png", "openclipart-svg"),
    "stamps": ("tuxpaint-stamps-default",),
    "gcompris": ("gcompris-qt-data",),
    "openmoji": ("openmoji",),
    "twemoji": ("emoji-datasource-twitter",),
    "fluent": ("fluentui-emoji",),
    "noto": ("fonts-noto-color-emoji",),
}
"""Packages of each source of pictures."""


def collect(packages: dict[str, Path]) -> list[Picture]:
    """
    Collect the named pictures of the packages, sorted by file.

    Args:
        packages (`dict[str, Path]`): Folder of each package, as [`fetch`] returns them.

    Raises:
        ForeignFileError: if a file of a package cannot be read.
        ValueError: if no picture is found in a package.
    """
    found = chain(
        clip_art(packages["openclipart-png"], packages["openclipart-svg"]),
        stamps(packages["tuxpaint-stamps-default"]),
        gcompris(packages["gcompris-qt-data"]),
        emoji(
            packages["openmoji"],
            packages["emoji-datasource-twitter"],
            packages["fluentui-emoji"],
            packages["fonts-noto-color-emoji"],
        ),
    )
    alike, kept = Counter(), []
    for picture in found:
        key = picture.source, picture.captions
        alike[key] += 1
        if alike[key] <= MAX_ALIKE:
            kept.append(picture)
    for source, names in SOURCES.items():
        if not any(picture.source == source for picture in kept):
            places = " and ".join(str(packages[name]) for name in names)
            raise ValueError(
                f"There is no picture of {source!r} in {places}. The files of {' and '.join(names)} must lie there as "
                "in the package. Delete the folder, and it is fetched anew, or unpack the package there."
            )
    return sorted(kept, key=lambda picture: picture.file)
