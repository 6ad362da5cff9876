"""Pictures of the world `shapes` that were drawn before: each chunk is drawn once on a machine, then read."""

import hashlib
import io
from contextlib import suppress
from functools import cache
from pathlib import Path

import datasets
import numpy as np

from ...recipe_io.results import write_whole


def drawn(split, seed, chunk, image_size, draw):
    """
    Return the pictures of one whole chunk, from the cache of `datasets` if it has them.

    The files lie in `shapes` in `HF_DATASETS_CACHE`, 1.5 MB per chunk of 512 pictures at 32 pixels. Each is written
    whole or not at all. Another version of the drawing code has another folder.

    Args:
        split (`str`), seed (`int`), chunk (`int`), image_size (`int`): Name of the pictures, as in [`load_shapes`].
        draw (`Callable`): Draws them: uint8 (512, S, S, 3).

    Returns:
        `np.ndarray`: uint8 (512, S, S, 3).
    """
    folder = Path(datasets.config.HF_DATASETS_CACHE, "shapes", f"{_version()}-{split}-{seed}-{image_size}")
    path = folder / f"{chunk:05d}.npy"
    if path.is_file():
        return np.load(path)
    pixels = draw()
    file = io.BytesIO()
    np.save(file, pixels)
    with suppress(OSError):  # A full or read-only disk costs time, not the data.
        write_whole(path, file.getvalue())
    return pixels


@cache
def _version():
    """Return a hash of the code that decides on the pixels."""
    code = [Path(__file__).with_name(name).read_bytes() for name in ("render.py", "scenes.py")]
    return hashlib.sha256(b"".join(code)).hexdigest()[:12]
