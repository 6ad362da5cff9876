"""Checkpoints of other projects as folders of ours: open_clip, CLIP-KD, TinyCLIP and MobileCLIP."""

from .folder import import_checkpoint
from .weights import LAYOUTS

__all__ = ["LAYOUTS", "import_checkpoint"]
