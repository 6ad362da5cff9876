"""Data for training and evaluation: images with captions, conversations about images, and a collator."""

from .collator import CLIPDataCollator
from .image_text import load_image_text
from .independent_crops import IndependentCropsCollator
from .instruct import load_instruct
from .reading.images import BrokenImageError, BrokenImages, decode_image
from .shapes import load_shapes
from .stream import Stream

__all__ = [
    "BrokenImageError",
    "BrokenImages",
    "CLIPDataCollator",
    "IndependentCropsCollator",
    "Stream",
    "decode_image",
    "load_image_text",
    "load_instruct",
    "load_shapes",
]
