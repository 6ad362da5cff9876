"""Masks of the object in each image of the world `shapes`."""

from __future__ import annotations

from ...data.shapes.instruct import SYMBOL_GRID, scene_symbols
from ...data.shapes.scenes import CHUNK, draw_scenes


def object_masks(split: str, size: int, seed: int = 0) -> list[list[list[int]]]:
    """
    Return masks of the quarters of each image that hold an object.

    Args:
        split (`str`), size (`int`), seed (`int`, *optional*, defaults to 0): See [`load_shapes`].

    Returns:
        `list`: 4 rows of 4 numbers for each image, 1 in quarters with an object.
    """
    chunks = range(-(-size // CHUNK))
    there = [mask for chunk in chunks for mask in scene_symbols(draw_scenes(seed, split, chunk))[..., 0]]
    return [mask.reshape(SYMBOL_GRID, SYMBOL_GRID).astype(int).tolist() for mask in there[:size]]
