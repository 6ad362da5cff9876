"""Pictures in each format that Pillow writes and reads, and the files of Qt that hold pictures."""

import io
from functools import cache

import numpy as np
from picture_packages import qt_resources
from PIL import Image

from hf_clip_kd.data.pictures.qt_resources import read_qt_resources
from hf_clip_kd.data.reading.images import MAX_PIXELS, BrokenImageError, decode_image

from .kind import Kind, png


@cache
def pixels():
    return np.random.default_rng(0).integers(0, 256, (18, 23, 4), dtype=np.uint8)


def picture_files():
    """Return a small picture in each format that Pillow writes and reads, and in the modes of some."""
    Image.init()
    made = {}
    for name in sorted(Image.SAVE.keys() - {"EPS"}):  # Its reader refuses it.
        for mode in ("RGBA", "RGB", "L", "1") if name in ("PNG", "TIFF", "WEBP", "GIF") else ("RGB", "L", "1"):
            buffer = io.BytesIO()
            try:
                Image.fromarray(pixels()).convert(mode).resize((32, 32)).save(buffer, name)
            except (OSError, ValueError, KeyError):
                continue
            made[f"picture {name} {mode}"] = buffer.getvalue()
            if name not in ("PNG", "TIFF", "WEBP", "GIF"):
                break
    return {name: data for name, data in made.items() if name.split()[1] in Image.OPEN}


def picture(data):
    return Kind("images", lambda folder: (folder / "picture").write_bytes(data), read_picture, whole=True)


def read_picture(folder):
    path = folder / "picture"
    try:
        image = decode_image(path.read_bytes())
    except BrokenImageError as error:
        raise ValueError(f"{path}: {error}. A collator names the row and goes on. Repair it.") from error
    assert image.mode == "RGB" and np.asarray(image).shape == (image.height, image.width, 3)
    assert image.width * image.height <= MAX_PIXELS
    return image.size, image.tobytes()


KINDS = {name: picture(data) for name, data in picture_files().items()}
KINDS["Qt resources"] = Kind(
    "lists",
    lambda folder: (folder / "a.rcc").write_bytes(
        qt_resources({"a/b.txt": b"red", "c.png": png()}, compressed=["c.png"])
    ),
    lambda folder: list(read_qt_resources(folder / "a.rcc")),
)
