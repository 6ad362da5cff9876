"""Models of open_clip: loading, tokens, and conversion into stock classes."""

from torch import nn


def is_open_clip(model: nn.Module) -> bool:
    """Tell a model of open_clip from one of transformers; this needs no import of open_clip, which takes seconds."""
    return hasattr(model, "encode_image")


__all__ = ["is_open_clip"]
