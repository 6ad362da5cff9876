"""Division of the pictures into a training set and held-out sets: the same packages give the same sets."""

from __future__ import annotations

import hashlib
import io
import re
from collections import defaultdict
from collections.abc import Callable, Iterable

from PIL import Image

from ..reading.images import MAX_PIXELS, BrokenImageError, decode_image
from .picture import Picture, damaged

TRAIN = "train"
CLASSES = {"category": "category", "style": "name", "unseen": "name"}
"""Sets for zero-shot classification, and what their classes are."""

NAMES = (TRAIN, "retrieval", "unseen", "style", "photographs", "category")
"""Names of all sets."""

_HELD_OUT = ("retrieval", "unseen", "style", "photographs")
_EMOJI = {"fluent", "noto", "openmoji", "twemoji"}
_STYLE = "twemoji"
# Emoji of these categories look alike: faces and hands of one kind, flags that share their colours.
_ALIKE = {"flags", "people"}
# One in so many names is held out, of those that no other name's caption holds. These are four of five names.
_SHARE = 7


def divide(pictures: list[Picture]) -> dict[str, list[Picture]]:
    """
    Divide pictures into sets.

    Args:
        pictures (`list[Picture]`): All pictures.

    Returns:
        `dict[str, list[Picture]]`: the pictures of each set, in their order.
        - `train`: drawings.
        - `retrieval`: clip art, stamps and words with new names, see [`new_names`]. No picture of such a name is in
          `train`, and no caption there holds it. Of pictures with the same fullest caption, it has the first.
        - `category`: clip art, stamps and words with new names and a category.
        - `unseen`: emoji with new names.
        - `style`: emoji of Twitter, whose names are in `train` as other emoji. No emoji of Twitter is in `train`.
        - `photographs`: photographs, whose fullest captions differ, too. No photograph is in `train`.

        No set holds the following pictures. Emoji of flags and people look alike, so `train` alone has some. A
        picture that looks like one of `train`, pixel by pixel, is left out elsewhere. Of pictures that look the same,
        a held-out set has the first. A picture of more than 2**26 pixels is left out, too. `train` keeps such
        pictures, and a run skips them.

    Raises:
        ForeignFileError: if a picture is damaged.
    """
    new = new_names(pictures)
    sets: dict[str, list[Picture]] = {name: [] for name in (TRAIN, *_HELD_OUT)}
    for picture in pictures:
        if (name := _set_of(picture, new)) is not None:
            sets[name].append(picture)
    seen = {None, *map(look, sets[TRAIN])}
    # Packages file one picture in several folders.
    sets |= {name: _first_of_each(sets[name], look, seen) for name in _HELD_OUT}
    known = {picture.name for picture in sets[TRAIN] if picture.source in _EMOJI}
    sets["style"] = [picture for picture in sets["style"] if picture.name in known]
    sets["category"] = [picture for picture in sets["retrieval"] if picture.category]
    # A caption can find only one picture.
    return sets | {name: _first_of_each(sets[name], _fullest_caption) for name in ("retrieval", "photographs")}


def _set_of(picture: Picture, new: set[str]) -> str | None:
    if picture.photograph:
        return "photographs"
    if picture.source not in _EMOJI:
        return "retrieval" if picture.name in new else TRAIN
    if picture.name not in new and picture.source != _STYLE:
        return TRAIN
    if picture.category in _ALIKE:
        return None
    return "unseen" if picture.name in new else "style"


def _first_of_each(
    pictures: list[Picture], key: Callable[[Picture], str | None], seen: Iterable[str | None] = ()
) -> list[Picture]:
    """Keep the first picture of each look or caption that was not seen."""
    first: dict[str | None, Picture] = {}
    for picture in pictures:
        first.setdefault(key(picture), picture)
    return [picture for value, picture in first.items() if value not in seen]


def _fullest_caption(picture: Picture) -> str:
    return picture.captions[-1]


def new_names(pictures: list[Picture]) -> set[str]:
    """
    Return the names that are held out, about a ninth of all.

    Only a name that stands in no caption of another name can be new. A `cheese pizza` rules out `pizza`. Case and
    punctuation do not count. The SHA-256 of a name decides.
    """
    spoken = {picture.name: _words(picture.name) for picture in pictures}
    runs = set(spoken.values())
    longest = max(map(len, runs), default=0)
    named: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for picture in pictures:
        for caption in map(_words, picture.captions):
            for start in range(len(caption)):
                for end in range(start + 1, min(start + longest, len(caption)) + 1):
                    if caption[start:end] in runs:
                        named[caption[start:end]].add(picture.name)
    return {name for name, run in spoken.items() if named[run] <= {name} and is_drawn(name)}


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+", text.lower()))


def is_drawn(name: str) -> bool:
    """Tell whether the SHA-256 of a name draws it: that of every seventh does."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % _SHARE == 0


def look(picture: Picture) -> str | None:
    """
    Return the SHA-256 of a picture's size and pixels on white; `None` for one of more than [`MAX_PIXELS`].

    Raises:
        ForeignFileError: if the picture is damaged.
    """
    if is_giant(picture):
        return None
    try:
        image = decode_image(picture.encoded())
    except BrokenImageError as error:
        raise damaged(picture.file, error) from error
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()


def is_giant(picture: Picture) -> bool:
    """
    Tell whether a picture has more than [`MAX_PIXELS`], at which training and evaluation skip it.

    Raises:
        ForeignFileError: if the file is no picture.
    """
    try:
        with Image.open(io.BytesIO(picture.encoded())) as image:
            return image.width * image.height > MAX_PIXELS
    except Image.DecompressionBombError:
        return True
    except OSError as error:
        raise damaged(picture.file, error) from error
