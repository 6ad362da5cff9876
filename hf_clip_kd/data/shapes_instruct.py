"""The world `shapes` as a conversation about each image, and what a perfect vision tower would tell of it."""

import numpy as np
from datasets import Dataset, Features, Image, List, Value

from .shapes import load_shapes
from .shapes_scenes import CELLS, CHUNK, COLORS, MAX_OBJECTS, SHAPES, SIZES, TEXTURES, Draws, draw_scenes
from .shapes_text import QUESTION_TYPES

# Patches per side of the symbolic image; each cell has two by two of them.
SYMBOL_GRID = 4
# Of a patch: whether an object is there, its four attributes one-hot, and in which half it lies, up or down, left or right.
SYMBOL_WIDTH = 1 + len(SHAPES) + len(COLORS) + len(SIZES) + len(TEXTURES) + 2 + 2

FEATURES = Features(
    {
        "id": Value("string"),
        "messages": List({"role": Value("string"), "content": Value("string")}),
        "images": List(Image(decode=False)),
        "num_words": Value("int64"),
        "num_images": Value("int64"),
    }
)


def load_shapes_instruct(split="train", size=None, seed=0, image_size=32):
    """
    One conversation per image: its questions of all types, in an order drawn per image, each with its answer.

    Args:
        split (`str`, *optional*, defaults to `"train"`):
            `"train"`, `"validation"` or `"test"`, as in [`load_shapes`], with the same images and questions.
        size (`int`, *optional*, defaults to `12000`):
            Number of images.
        seed (`int`, *optional*, defaults to `0`), image_size (`int`, *optional*, defaults to `32`):
            As in [`load_shapes`].

    Returns:
        [`~datasets.Dataset`] with the columns of [`load_instruct`]; the `path` of an image is its name, which
        [`symbols_of`] understands.

    Raises:
        ValueError: As in [`load_shapes`].
    """
    types = len(QUESTION_TYPES)
    size = 12_000 if size is None else size
    asked = load_shapes(split, size * types, seed, image_size, vqa=True).cast_column("image", Image(decode=False))
    questions, answers = asked["question"][:], [answer[0] for answer in asked["answers"][:]]
    pictures = asked.select(range(0, size * types, types))["image"][:]
    orders = Draws(seed, _stream(split), 0, stream=2).order(types, (size,))

    rows = {name: [] for name in FEATURES}
    for index, order in enumerate(orders):
        messages = []
        for turn, which in enumerate(order.tolist()):
            marker = "" if turn else "<image>\n"
            at = index * types + which
            messages.append({"role": "user", "content": marker + questions[at]})
            messages.append({"role": "assistant", "content": answers[at]})
        name = f"shapes/{split}/{seed}/{index}"
        rows["id"].append(name)
        rows["messages"].append(messages)
        rows["images"].append([{"bytes": pictures[index]["bytes"], "path": name}])
        rows["num_words"].append(sum(len(message["content"].split()) for message in messages))
        rows["num_images"].append(1)
    return Dataset.from_dict(rows, features=FEATURES)


def symbols_of(name):
    """
    The symbolic image of the scene called `shapes/SPLIT/SEED/INDEX`.

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
    """float32 (n, patches, `SYMBOL_WIDTH`): each patch of a cell carries all that is to know about its object."""
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
    place = np.concatenate([np.eye(2, dtype=np.float32)[row], np.eye(2, dtype=np.float32)[column]], axis=-1)
    place = np.broadcast_to(place, (n, *place.shape))
    return np.concatenate([by_cell[:, 2 * row + column], place], axis=-1)


def _stream(split):
    from .shapes_scenes import SPLITS

    return SPLITS[split][0]


__all__ = ["SYMBOL_GRID", "SYMBOL_WIDTH", "load_shapes_instruct", "symbols_of"]
