"""Places of the objects in each image of the world `shapes`, named by what they are."""

from __future__ import annotations

from ...data.shapes.render import UNITS
from ...data.shapes.scenes import CHUNK, draw_scenes
from ...data.shapes.text import SHAPES_CLASS_NAMES, class_labels


def object_keypoints(split: str, size: int, seed: int = 0) -> list[list[dict]]:
    """
    Return the middle of each object, named by its colour and shape, which no other object of the image shares.

    Args:
        split (`str`), size (`int`), seed (`int`, *optional*, defaults to 0): See [`load_shapes`].

    Returns:
        `list`: For each image, a `dict` with `name`, `x` and `y` for each object, see [`Keypoint`].
    """
    found = []
    for chunk in range(-(-size // CHUNK)):
        scenes = draw_scenes(seed, split, chunk)
        columns = scenes.count.tolist(), class_labels(scenes).tolist(), (scenes.center / UNITS).tolist()
        for count, labels, centers in zip(*columns, strict=True):
            objects = zip(labels[:count], centers, strict=False)
            found.append([{"name": SHAPES_CLASS_NAMES[label], "x": x, "y": y} for label, (x, y) in objects])
    return found[:size]
