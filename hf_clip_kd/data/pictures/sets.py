"""Division of the pictures into a training set and held-out sets: the same packages give the same sets."""

from __future__ import annotations

import hashlib
import io

from PIL import Image

from ..reading.images import MAX_PIXELS
from .picture import Picture

TRAIN = "train"
CLASSES = {"category": "category", "style": "name", "unseen": "name"}
"""Sets for zero-shot classification, and what their classes are."""

_HELD_OUT = ("retrieval", "unseen", "style", "photographs")
_EMOJI = {"fluent", "noto", "openmoji", "twemoji"}
_STYLE = "twemoji"
# Emoji of these categories look alike: faces and hands of one kind, flags that share their colours.
_ALIKE = {"flags", "people"}
_SHARE = 10


def divide(pictures: list[Picture]) -> dict[str, list[Picture]]:
    """
    Divide pictures into sets.

    Args:
        pictures (`list[Picture]`): All pictures.

    Returns:
        `dict[str, list[Picture]]`: the pictures of each set, in their order.
        - `train`: drawings.
        - `retrieval`: clip art, stamps and words with new names. A tenth of all names is new: no picture of such a
          name is in `train`. Of pictures with the same fullest caption, it has the first.
        - `category`: clip art, stamps and words with new names and a category.
        - `unseen`: emoji with new names.
        - `style`: emoji of Twitter, whose names are in `train` as other emoji. No emoji of Twitter is in `train`.
        - `photographs`: photographs, whose fullest captions differ, too. No photograph is in `train`.

        No set holds the following pictures. Emoji of flags and people look alike, so `train` alone has some. A file
        that `train` holds under another name is left out elsewhere. So is a picture of more than 2**26 pixels.
        `train` keeps such pictures, and a run skips them.
    """
    train = [picture for picture in pictures if _set_of(picture) == TRAIN]
    files = {picture.digest() for picture in train}
    held_out = [p for p in pictures if _set_of(p) not in (None, TRAIN) and p.digest() not in files and not is_giant(p)]
    sets = {TRAIN: train, **{name: [p for p in held_out if _set_of(p) == name] for name in _HELD_OUT}}
    known = {picture.name for picture in train if picture.source in _EMOJI}
    sets["style"] = [picture for picture in sets["style"] if picture.name in known]
    sets["category"] = [picture for picture in sets["retrieval"] if picture.category]
    return sets | {name: _of_different_captions(sets[name]) for name in ("retrieval", "photographs")}


def _set_of(picture: Picture) -> str | None:
    if picture.photograph:
        return "photographs"
    new = is_new(picture.name)
    if picture.source not in _EMOJI:
        return "retrieval" if new else TRAIN
    if not new and picture.source != _STYLE:
        return TRAIN
    if picture.category in _ALIKE:
        return None
    return "unseen" if new else "style"


def _of_different_captions(pictures: list[Picture]) -> list[Picture]:
    """Keep the first picture of each fullest caption, since a caption can find only one."""
    first = {picture.captions[-1]: picture for picture in reversed(pictures)}
    return [picture for picture in pictures if first[picture.captions[-1]] is picture]


def is_new(name: str) -> bool:
    """Tell whether a name is among the tenth that is held out, by its SHA-256."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % _SHARE == 0


def is_giant(picture: Picture) -> bool:
    """Tell whether a picture has more than [`MAX_PIXELS`], at which training and evaluation skip it."""
    try:
        with Image.open(io.BytesIO(picture.encoded())) as image:
            return image.width * image.height > MAX_PIXELS
    except Image.DecompressionBombError:
        return True
