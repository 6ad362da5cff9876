"""Division of the pictures into a training set and held-out sets. It depends on their names alone."""

from __future__ import annotations

import hashlib
import io

from PIL import Image

from ..reading.images import MAX_PIXELS
from .picture import Picture

TRAIN = "train"
CLASSES = {"category": "category", "style": "name", "unseen": "name"}
"""Sets for zero-shot classification, and what their classes are."""

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
          name is in `train`.
        - `category`: those of `retrieval` with a category.
        - `unseen`: emoji with new names.
        - `style`: emoji of Twitter, whose names are in `train` as other emoji. No emoji of Twitter is in `train`.
        - `photographs`: all photographs. None is in `train`.

        Emoji of flags and people look alike. Those that `train` does not hold are in no set.
        So are held-out pictures of more than 2**26 pixels. `train` keeps such pictures, and a run skips them.
    """
    sets: dict[str, list[Picture]] = {name: [] for name in (TRAIN, "retrieval", "category", "unseen", "style")}
    sets["photographs"] = []
    for picture in pictures:
        name = _set_of(picture)
        if name is not None and (name == TRAIN or not is_giant(picture)):
            sets[name].append(picture)
    sets["category"] = [picture for picture in sets["retrieval"] if picture.category]
    known = {picture.name for picture in sets[TRAIN] if picture.source in _EMOJI}
    sets["style"] = [picture for picture in sets["style"] if picture.name in known]
    return sets


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
