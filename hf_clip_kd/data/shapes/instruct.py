"""Conversations about the images of `shapes`, and symbolic images: the output of a perfect vision tower."""

import numpy as np
from datasets import Dataset, Image

from ..instruct import FEATURES
from . import MIN_IMAGE_SIZE, load_shapes
from .scenes import CELLS, CHUNK, COLORS, MAX_OBJECTS, SHAPES, SIZES, TEXTURES, draw_scenes
from .text import QUESTION_TYPES

# Patches per side of the symbolic image. Each cell has two by two patches.
SYMBOL_GRID = 4
# Values of a patch: presence of an object, its four attributes one-hot, and its cell.
# The cell is given as row, column and number, each one-hot.
SYMBOL_WIDTH = 1 + len(SHAPES) + len(COLORS) + len(SIZES) + len(TEXTURES) + 2 + 2 + len(CELLS)


def load_shapes_instruct(split="train", size=None, seed=0, image_size=32, pixels=True):
    """
    Load one question and its answer per row. Six rows after each other, one of each type, show the same image.

    Args:
        split (`str`, *optional*, defaults to `"train"`):
            `"train"`, `"validation"` or `"test"`, as in [`load_shapes`], with the same images and questions.
        size (`int`, *optional*):
            Number of rows. The default is that of [`load_shapes`].
        seed (`int`, *optional*, defaults to `0`):
            Seed of the world, as in [`load_shapes`].
        image_size (`int`, *optional*, defaults to `32`):
            Side of the images in pixels, as in [`load_shapes`].
        pixels (`bool`, *optional*, defaults to `True`):
            `False` does not draw the images: they have a name and no bytes.

    Returns:
        [`~datasets.Dataset`] with the columns of [`load_instruct`]. The `path` of an image is its name for
        [`symbols_of`].

    Raises:
        ValueError: as in [`load_shapes`].
    """
    # The scene is the same at every size. The smallest is drawn fastest.
    asked = load_shapes(split, size, seed, image_size if pixels else MIN_IMAGE_SIZE, vqa=True)
    asked = asked.cast_column("image", Image(decode=False))
    columns = (asked["question"][:], asked["answers"][:], asked["question_type"][:], asked["image"][:])
    rows = {name: [] for name in FEATURES}
    for index, (question, (answer,), kind, image) in enumerate(zip(*columns, strict=True)):
        name = f"shapes/{split}/{seed}/{index // len(QUESTION_TYPES)}"
        turns = (("user", f"<image>\n{question}"), ("assistant", answer))
        rows["id"].append(f"{name}/{kind}")
        rows["messages"].append([{"role": role, "content": content} for role, content in turns])
        rows["images"].append([{"bytes": image["bytes"] if pixels else None, "path": name}])
        rows["num_words"].append(len(question.split()) + 2)
        rows["num_images"].append(1)
    return Dataset.from_dict(rows, features=FEATURES)


def symbols_of(name):
    """
    Return the symbolic image of the scene named `shapes/SPLIT/SEED/INDEX`.

    Returns:
        `np.ndarray`: float32 (`SYMBOL_GRID`², `SYMBOL_WIDTH`), patches row by row, each value 0 or 1.
    """
    _, split, seed, index = name.split("/")
    return _chunk_symbols(split, int(seed), int(index) // CHUNK)[int(index) % CHUNK]


_CHUNKS = {}


def _chunk_symbols(split, seed, chunk):
    key = split, seed, chunk
    if key not in _CHUNKS:
        _CHUNKS[key] = scene_symbols(draw_scenes(seed, split, chunk))
    return _CHUNKS[key]


def scene_symbols(scenes):
    """Return float32 (n, patches, `SYMBOL_WIDTH`). Each patch of a cell has all facts about its object."""
    n = len(scenes.count)
    attributes = (
        (scenes.shape, len(SHAPES)),
        (scenes.color, len(COLORS)),
        (scenes.size, len(SIZES)),
        (scenes.texture, len(TEXTURES)),
    )
    known = np.concatenate([np.eye(width, dtype=np.float32)[which] for which, width in attributes], axis=-1)
    known = np.concatenate([np.ones((n, MAX_OBJECTS, 1), np.float32), known], axis=-1)
    known *= (np.arange(MAX_OBJECTS) < scenes.count[:, None])[..., None]
    by_cell = np.zeros((n, len(CELLS), known.shape[-1]), np.float32)
    by_cell[np.arange(n)[:, None], scenes.cell] = known
    row, column = np.divmod(np.arange(SYMBOL_GRID**2), SYMBOL_GRID) // np.array(SYMBOL_GRID // 2)
    cell = 2 * row + column
    # Row and column would be enough, but a language model then learns several times slower.
    place = np.concatenate([np.eye(2)[row], np.eye(2)[column], np.eye(len(CELLS))[cell]], axis=-1).astype(np.float32)
    place = np.broadcast_to(place, (n, *place.shape))
    return np.concatenate([by_cell[:, cell], place], axis=-1)


__all__ = ["SYMBOL_GRID", "SYMBOL_WIDTH", "load_shapes_instruct", "symbols_of"]
