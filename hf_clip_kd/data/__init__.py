"""Data for training and evaluation: images with captions, and the collator that shows them to two models."""

from .collator import CLIPDataCollator
from .image_text import load_image_text
from .images import BrokenImageError, BrokenImages, decode_image
from .shapes import load_shapes

__all__ = ["BrokenImageError", "BrokenImages", "CLIPDataCollator", "decode_image", "load_image_text", "load_shapes"]
