"""Scenes of the world `shapes`: the objects, their places, and the choices for captions and questions."""

from dataclasses import dataclass, fields

import numpy as np

SHAPES = ("circle", "square", "triangle", "diamond", "cross", "star", "ring", "heart")
COLORS = ("red", "green", "blue", "yellow", "purple", "cyan", "pink", "white")
SIZES = ("small", "large")
TEXTURES = ("plain", "striped", "dotted")
CELLS = ("top left", "top right", "bottom left", "bottom right")
MAX_OBJECTS = len(CELLS)

# A split is a number in the seed, and the range of objects per image. Every image depends on these numbers: never
# reuse or renumber them.
SPLITS = {
    "train": (0, 1, 4),
    "validation": (1, 1, 4),
    "test": (2, 1, 4),
    "zero_shot": (3, 1, 1),
    "retrieval": (4, 2, 4),
    "compositional": (5, 2, 2),
}

# Differences between the two scenes of a pair, in turn. A pair is two rows after each other of this split.
PAIRED = "compositional"
CHANGES = ("swapped_colors", "swapped_places", "changed_attribute")

# Scenes are drawn in whole chunks, so an image does not depend on the number of images.
CHUNK = 512


class Draws:
    """
    Random integers that are the same on every platform and with every NumPy.

    NumPy guarantees SeedSequence and the raw stream of PCG64. It does not guarantee the methods of its Generator.

    Args:
        seed (`int`): The user's seed, at least 0.
        split (`int`): Number of the split.
        chunk (`int`): Number of the chunk of `CHUNK` images.
        stream (`int`): 0 for the scenes, 1 for the pixel noise. The amount of noise depends on the image size.
    """

    def __init__(self, seed, split, chunk, stream):
        self.bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(split, chunk, stream)))

    def below(self, high, shape):
        """Draw integers in [0, high), int64 of `shape`. `high` is an `int` or broadcasts to `shape`."""
        raw = self.bits.random_raw(shape) >> np.uint64(32)
        # Multiply and shift is cheaper than a modulo, and its bias is below high / 2**32.
        return ((raw * np.asarray(high, dtype=np.uint64)) >> np.uint64(32)).astype(np.int64)

    def between(self, low, high, shape):
        """Draw float32 numbers of `shape`, exact points of a grid of 256 steps from `low` to `high`."""
        return low + self.below(257, shape).astype(np.float32) * np.float32((high - low) / 256)

    def order(self, items, shape):
        """Draw an order of `range(items)` for each place of `shape`: int64 (*shape, items)."""
        return np.argsort(self.below(2**31, (*shape, items)), axis=-1, kind="stable")

    def bytes(self, rows, per_row):
        """Draw uint8 (rows, per_row). The bytes of a row do not depend on the number of rows in a call."""
        words = -(-per_row // 8)
        raw = self.bits.random_raw((rows, words)).astype("<u8", copy=False)
        return raw.view(np.uint8).reshape(rows, words * 8)[:, :per_row]


@dataclass
class Scenes:
    """
    All random choices of n images except the pixel noise.

    Lengths are in units of 1/32 of the image side. Objects come in the order in which a caption names them. Objects
    from `count` on are not in the image.
    """

    count: np.ndarray  # (n,) number of objects in the image
    cell: np.ndarray  # (n, 4) index into CELLS, each cell once
    color: np.ndarray  # (n, 4) index into COLORS
    shape: np.ndarray  # (n, 4) index into SHAPES
    size: np.ndarray  # (n, 4) index into SIZES
    texture: np.ndarray  # (n, 4) index into TEXTURES
    center: np.ndarray  # (n, 4, 2) x and y
    radius: np.ndarray  # (n, 4)
    phase: np.ndarray  # (n, 4, 2) shift of the texture in x and y
    tint: np.ndarray  # (n, 4, 3) difference of the object's RGB from its colour's
    background: np.ndarray  # (n, 3, 4, 4) RGB at the nodes of a 4x4 grid
    segment: np.ndarray  # (n, 2, 4) ends x0 y0 x1 y1 of the two distracting lines
    segment_color: np.ndarray  # (n, 2, 3) RGB
    says_size: np.ndarray  # (n, 4) true if a caption names this object's size
    says_texture: np.ndarray  # (n, 4) true if a caption names this object's texture
    wording: np.ndarray  # (n, 4) 32 random bits each, which choose the words
    asked: np.ndarray  # (n, 6) 32 random bits each, which choose a question's object

    def __getitem__(self, rows):
        return Scenes(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def draw_scenes(seed, split, chunk):
    """
    Draw the `CHUNK` scenes of one chunk.

    Args:
        seed (`int`): The user's seed, at least 0.
        split (`str`): Key of `SPLITS`.
        chunk (`int`): Number of the chunk.

    Returns:
        [`Scenes`] with n = `CHUNK`. Those of `"compositional"` are pairs, see [`_in_pairs`].
    """
    number, fewest, most = SPLITS[split]
    draws = Draws(seed, number, chunk, stream=0)
    each = (CHUNK, MAX_OBJECTS)

    count = fewest + draws.below(most - fewest + 1, CHUNK)
    cell = draws.order(MAX_OBJECTS, (CHUNK,))
    color, shape = _distinct_kinds(draws, labelled=split == "zero_shot")
    size = draws.below(len(SIZES), each)
    texture = draws.below(len(TEXTURES), each)

    middle = np.stack([8 + 16 * (cell % 2), 8 + 16 * (cell // 2)], axis=-1).astype(np.float32)
    center = middle + draws.between(-1.5, 1.5, (*each, 2))
    radius = np.where(size == 1, draws.between(6.25, 7.25, each), draws.between(4, 4.75, each)).astype(np.float32)

    base = draws.between(45, 125, (CHUNK, 1, 1, 1))
    segment = draws.between(0, 32, (CHUNK, 2, 4))
    segment[..., 2] = np.where(segment[..., 2] == segment[..., 0], segment[..., 0] + 1, segment[..., 2])
    scenes = Scenes(
        count=count,
        cell=cell,
        color=color,
        shape=shape,
        size=size,
        texture=texture,
        center=center,
        radius=radius,
        phase=draws.between(0, 4, (*each, 2)),
        tint=draws.between(-16, 16, (*each, 3)),
        background=base + draws.between(-36, 36, (CHUNK, 3, 4, 4)),
        segment=segment,
        segment_color=draws.between(30, 200, (CHUNK, 2, 3)),
        says_size=draws.below(10, each) >= 4,
        says_texture=draws.below(10, each) >= 4,
        wording=draws.below(2**32, (CHUNK, 4)),
        asked=draws.below(2**32, (CHUNK, 6)),
    )
    return _in_pairs(scenes, chunk) if split == PAIRED else scenes


def changes(rows):
    """Return the change of each row of `"compositional"`: an index into `CHANGES`, int64 like `rows`."""
    return rows // 2 % len(CHANGES)


def _in_pairs(scenes, chunk):
    """
    Return pairs of scenes of two objects that differ in a single thing.

    Rows 2k and 2k + 1 are a pair, made of scene k. Colours change places, objects change places, or one attribute of
    one object changes. The colours and the shapes of two objects differ, before and after. The caption of the one
    scene is false about the other. Two captions with changed places have the same words in another order.

    Args:
        scenes ([`Scenes`]): The `CHUNK` scenes of a chunk with two objects each. The second half is not used.
        chunk (`int`): Number of the chunk.

    Returns:
        [`Scenes`] with n = `CHUNK`.
    """
    first = {part.name: getattr(scenes, part.name)[: CHUNK // 2].copy() for part in fields(scenes)}
    bits, color = first["asked"], first["color"]
    other_color = (color[:, 0] + 1 + (bits[:, 2] * (len(COLORS) - 1) >> 32)) % len(COLORS)
    color[:, 1] = np.where(color[:, 1] == color[:, 0], other_color, color[:, 1])
    second = {name: values.copy() for name, values in first.items()}
    rows = chunk * CHUNK + 2 * np.arange(CHUNK // 2)
    swapped = {0: ("color", "tint"), 1: tuple(set(first) - {"count", "cell", "center", *_OF_THE_IMAGE})}
    for change, names in swapped.items():
        some = changes(rows) == change
        for name in names:
            second[name][some, :2] = first[name][some, 1::-1]
    for turn, attribute in enumerate(_VALUES):
        some = np.nonzero((changes(rows) == 2) & (rows // 2 // len(CHANGES) % len(_VALUES) == turn))[0]
        item = bits[some, 0] >> 31
        second[attribute][some, item] = _other_value(first[attribute][some, :2], item, bits[some, 1], attribute)
        if attribute in _TOLD:
            first[_TOLD[attribute]][some, item] = second[_TOLD[attribute]][some, item] = True
        if attribute == "size":
            second["radius"][some, item] = np.where(second["size"][some, item] == 1, 6.75, 4.375)
    both = {name: np.stack([first[name], second[name]], axis=1) for name in first}
    return Scenes(**{name: values.reshape(CHUNK, *values.shape[2:]) for name, values in both.items()})


# Parts of a scene that belong to no object.
_OF_THE_IMAGE = ("background", "segment", "segment_color", "wording", "asked")
# Number of values of each attribute, and the choice to name those that a caption may leave out.
_VALUES = {"color": len(COLORS), "shape": len(SHAPES), "texture": len(TEXTURES), "size": len(SIZES)}
_TOLD = {"texture": "says_texture", "size": "says_size"}


def _other_value(values, item, bits, attribute):
    """
    Return another value for one of two objects. A new colour or shape is not that of the other object, either.

    Args:
        values (`np.ndarray`): int64 (k, 2), the values of both objects.
        item (`np.ndarray`): int64 (k,), 0 or 1: the object that changes.
        bits (`np.ndarray`): int64 (k,), 32 random bits each.
        attribute (`str`): Key of `_VALUES`.
    """
    number, own = _VALUES[attribute], np.take_along_axis(values, item[:, None], axis=1)[:, 0]
    if attribute in _TOLD:
        return (own + 1 + (bits * (number - 1) >> 32)) % number
    new = bits * (number - 2) >> 32
    for taken in np.sort(values, axis=1).T:
        new = new + (new >= taken)
    return new


def _distinct_kinds(draws, labelled):
    """
    Draw colours and shapes, int64 (CHUNK, 4) each. No two objects of an image share both.

    The first object's shape occurs once, so that "what color is the circle?" always has one answer. All such images
    are equally likely.
    """
    shapes, colors = len(SHAPES), len(COLORS)
    if labelled:
        # Each run of 64 images holds each class once, so per-class recall is defined from 64 images on.
        first = draws.order(shapes * colors, (CHUNK // (shapes * colors),)).reshape(CHUNK)
    else:
        first = draws.below(shapes * colors, CHUNK)
    color, shape = [first // shapes], [first % shapes]
    taken = []
    for i in range(MAX_OBJECTS - 1):
        # The number counts the kinds that are left. Each taken kind below it moves it up, smallest first.
        kind = draws.below((shapes - 1) * colors - i, CHUNK)
        for other in np.sort(np.array(taken, dtype=np.int64).reshape(i, CHUNK), axis=0):
            kind = kind + (kind >= other)
        taken.append(kind)
        color.append(kind // (shapes - 1))
        shape.append((shape[0] + 1 + kind % (shapes - 1)) % shapes)
    return np.stack(color, axis=1), np.stack(shape, axis=1)
