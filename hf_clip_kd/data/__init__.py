"""Data for training and evaluation: images with captions, conversations about images, and a collator."""

from importlib import import_module
from typing import Any

# Imported at its first use, since the arguments of a recipe stand in this folder, too.
_PLACE = {
    "BrokenImageError": "reading.images",
    "BrokenImages": "reading.images",
    "CLIPDataCollator": "collator",
    "IndependentCropsCollator": "independent_crops",
    "Stream": "stream",
    "decode_image": "reading.images",
    "load_image_text": "image_text",
    "load_instruct": "instruct",
    "load_shapes": "shapes",
}

__all__ = sorted(_PLACE)


def __getattr__(name: str) -> Any:
    if name in _PLACE:
        return getattr(import_module(f".{_PLACE[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
