"""Data for training and evaluation: images with captions, a collator for two models, conversations about images."""

from .augmentations import AugmentationCollator
from .collator import CLIPDataCollator
from .image_text import load_image_text
from .images import BrokenImageError, BrokenImages, decode_image
from .instruct import load_instruct
from .replay import ReplayCollator
from .shapes import load_shapes
from .stream import Stream

__all__ = [
    "AugmentationCollator",
    "BrokenImageError",
    "BrokenImages",
    "CLIPDataCollator",
    "ReplayCollator",
    "Stream",
    "decode_image",
    "load_image_text",
    "load_instruct",
    "load_shapes",
]
