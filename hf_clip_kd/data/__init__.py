"""Data for training and evaluation: images with captions, a collator for two models, conversations about images."""

from .collator import CLIPDataCollator
from .image_text import load_image_text
from .images import BrokenImageError, BrokenImages, decode_image
from .instruct import load_instruct
from .shapes import load_shapes

__all__ = [
    "BrokenImageError",
    "BrokenImages",
    "CLIPDataCollator",
    "decode_image",
    "load_image_text",
    "load_instruct",
    "load_shapes",
]
