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


def collect(packages: dict[str, Path]) -> list[Picture]:
    """
    Collect the named pictures of the packages, sorted by file.

    Args:
        packages (`dict[str, Path]`): Folder of each package, as [`fetch`] returns them.

    Raises:
        ForeignFileError: if a file of a package cannot be read.
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
    return sorted(kept, key=lambda picture: picture.file)
