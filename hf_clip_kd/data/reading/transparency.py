"""Transparency of a decoded picture: laid on white, or dropped as stock pipelines do."""

from __future__ import annotations

from PIL import Image

_ROWS = 64  # Strips of this height are made opaque. No second copy of a large picture is then in memory.


def flatten(image: Image.Image, dropped: bool = False) -> Image.Image:
    """Make a picture opaque.

    Args:
        image (`PIL.Image.Image`): Picture of [`decode_with_alpha`], of any mode with transparency, or `"RGB"`.
        dropped (`bool`, *optional*, defaults to `False`):
            `False` lays transparent pixels on white, as the image processors of transformers do. `True` shows the
            colours that a file holds below them, often black. `transformers.pipeline` and open_clip do this, before
            any image processor sees the picture.

    Returns:
        `PIL.Image.Image`: a picture of mode `"RGB"`, of the same size. An opaque one is returned as it is.
    """
    if not image.has_transparency_data:
        return image
    width, height = image.size
    flat = Image.new("RGB", image.size)
    for top in range(0, height, _ROWS):
        strip = image.crop((0, top, width, min(top + _ROWS, height)))
        flat.paste(_opaque(strip, dropped), (0, top))
    return flat


def _opaque(image: Image.Image, dropped: bool) -> Image.Image:
    if image.mode == "La":  # Pillow turns premultiplied greys into plain ones only.
        image = image.convert("LA")
    image = image.convert("RGBA")
    if not dropped:
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
    return image.convert("RGB")
