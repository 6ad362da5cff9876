"""Small odd pictures of every kind, and what a person sees in each."""

import io
import struct
import zlib
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms

WIDTH, HEIGHT = 24, 16
# Red grows to the right and green downwards, so a turned picture is another one.
SEEN = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
SEEN[..., 0], SEEN[..., 1], SEEN[..., 2] = np.arange(WIDTH) * 10, np.arange(HEIGHT)[:, None] * 15, 60
GREY = SEEN[..., :1].repeat(3, axis=2)
CLEAR = np.zeros((HEIGHT, WIDTH), bool)
CLEAR[4:12, 8:20] = True  # The transparent part of a picture.
ON_WHITE, GREY_ON_WHITE = (np.where(CLEAR[..., None], 255, seen).astype(np.uint8) for seen in (SEEN, GREY))
LOSSY = 12  # A JPEG's largest difference, in levels of 255.
_BACK = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # EXIF orientation -> the transposition that stores it so.


class Odd(NamedTuple):
    """
    Attributes:
        value: A file's bytes, or a picture or array in memory.
        seen: Pixels (height, width, 3) that a person sees on a white page, or `None` for a picture to refuse.
        dropped: Pixels if transparency is dropped; those of `seen` if there is none.
        tolerance: Largest difference of levels.
    """

    value: object
    seen: np.ndarray | None
    dropped: np.ndarray | None = None
    tolerance: int = 0


def encoded(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def oriented(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_bomb(width, height):
    """Return a PNG of a few bytes whose header promises a huge picture."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def odd_pictures():
    """Return each picture by its name."""
    rgb, grey = Image.fromarray(SEEN), Image.fromarray(SEEN[..., 0])
    alpha = Image.fromarray(np.where(CLEAR, 0, 255).astype(np.uint8))
    rgba, la = rgb.copy(), grey.copy()
    rgba.putalpha(alpha)
    la.putalpha(alpha)
    half = Image.new("RGBA", (WIDTH, HEIGHT), (200, 0, 100, 51))
    half_on_white = np.full_like(SEEN, (244, 204, 224))  # 0.2 of the colour and 0.8 of 255.
    palette = Image.fromarray(np.where(CLEAR, 1, 0).astype(np.uint8))
    palette = Image.frombytes("P", palette.size, palette.tobytes())
    palette.putpalette([250, 20, 30, 0, 80, 160])
    page = np.where(CLEAR[..., None], (255, 255, 255), (250, 20, 30)).astype(np.uint8)
    below = np.where(CLEAR[..., None], (0, 80, 160), (250, 20, 30)).astype(np.uint8)
    keyed = SEEN.copy()
    keyed[CLEAR] = 1, 2, 3
    keyed_grey = np.where(CLEAR, 3, SEEN[..., 0]).astype(np.uint8)
    wide = SEEN[..., 0].astype(np.uint16) * 257
    other = Image.new("RGB", (WIDTH, HEIGHT), (0, 0, 255))
    frames = {"save_all": True, "append_images": [other]}
    flat = Image.new("P", (WIDTH, HEIGHT), 0)
    flat.putpalette([250, 20, 30])
    red = np.full_like(SEEN, (250, 20, 30))
    bilevel = Image.fromarray(np.where(CLEAR, 255, 0).astype(np.uint8)).convert("1")
    black_white = np.where(CLEAR[..., None], 255, 0).astype(np.uint8).repeat(3, axis=2)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    damaged = b"Exif\x00\x00MM\x00*\xff\xff\xff\xff"
    white_lab = Image.new("LAB", (WIDTH, HEIGHT), (255, 128, 128))
    turned = {
        f"exif {number}": Odd(
            encoded(rgb.transpose(Image.Transpose(back)), "JPEG", exif=oriented(number), quality=98, subsampling=0),
            SEEN,
            tolerance=LOSSY,
        )
        for number, back in _BACK.items()
    }
    sideways = rgb.transpose(Image.Transpose(_BACK[6]))
    in_memory = sideways.copy()
    in_memory.info["exif"] = oriented(6).tobytes()
    return turned | {
        "exif in a PNG": Odd(encoded(sideways, exif=oriented(6)), SEEN),
        "exif in a WebP": Odd(encoded(sideways, "WEBP", lossless=True, exif=oriented(6)), SEEN),
        "exif in a TIFF": Odd(encoded(sideways, "TIFF", exif=oriented(6)), SEEN),
        "exif in memory": Odd(in_memory, SEEN),
        "exif of a transparent PNG": Odd(
            encoded(rgba.transpose(Image.Transpose(_BACK[8])), exif=oriented(8)), ON_WHITE, SEEN
        ),
        "damaged exif": Odd(encoded(rgb, exif=damaged), SEEN),
        "ICC profile": Odd(encoded(rgb, icc_profile=profile), SEEN),
        "16-bit grey PNG": Odd(encoded(Image.fromarray(wide)), GREY),
        "16-bit grey TIFF": Odd(encoded(Image.fromarray(wide), "TIFF"), GREY),
        "16-bit grey with a key": Odd(
            png_with_key(wide, key=257 * 80), np.where(GREY == 80, 255, GREY).astype(np.uint8), GREY
        ),
        "32-bit grey": Odd(encoded(Image.fromarray(wide.astype(np.int32)), "TIFF"), GREY),
        "float grey": Odd(encoded(Image.fromarray(SEEN[..., 0] / np.float32(255)), "TIFF"), GREY),
        "RGBA": Odd(encoded(rgba), ON_WHITE, SEEN),
        "RGBA, half clear": Odd(encoded(half), half_on_white, np.full_like(SEEN, (200, 0, 100)), 1),
        "RGBA in memory": Odd(rgba, ON_WHITE, SEEN),
        "premultiplied RGBA": Odd(half.convert("RGBa"), half_on_white, np.full_like(SEEN, (200, 0, 100)), 3),
        "LA": Odd(encoded(la), GREY_ON_WHITE, GREY),
        "premultiplied LA": Odd(
            la.convert("La"), GREY_ON_WHITE, np.where(CLEAR[..., None], 0, GREY).astype(np.uint8), 1
        ),
        "palette with a clear colour": Odd(encoded(palette, transparency=1), page, below),
        "palette of alphas": Odd(encoded(palette, transparency=bytes((255, 0))), page, below),
        "palette with alpha": Odd(
            Image.merge("RGBA", (*Image.fromarray(below).split(), alpha)).convert("PA"), page, below
        ),
        "RGB with a key": Odd(encoded(Image.fromarray(keyed), transparency=(1, 2, 3)), ON_WHITE, keyed),
        "grey with a key": Odd(
            encoded(Image.fromarray(keyed_grey), transparency=3),
            np.where(keyed_grey == 3, 255, keyed_grey)[..., None].repeat(3, axis=2),
            keyed_grey[..., None].repeat(3, axis=2),
        ),
        "transparent GIF": Odd(encoded(palette, "GIF", transparency=1), page, below),
        "transparent WebP": Odd(encoded(rgba, "WEBP", lossless=True, exact=True), ON_WHITE, SEEN),
        "CMYK": Odd(encoded(Image.new("CMYK", (WIDTH, HEIGHT), (5, 235, 225, 0)), "JPEG"), red, tolerance=LOSSY),
        "YCbCr": Odd(encoded(rgb.convert("YCbCr"), "TIFF"), SEEN, tolerance=3),
        "LAB": Odd(encoded(white_lab, "TIFF"), np.full_like(SEEN, 255), tolerance=1),
        "1-bit": Odd(encoded(bilevel), black_white),
        "palette": Odd(encoded(flat), red),
        "animated GIF": Odd(encoded(flat, "GIF", **frames), red),
        "animated WebP": Odd(encoded(rgb, "WEBP", lossless=True, **frames), SEEN),
        "APNG": Odd(encoded(rgb, **frames), SEEN),
        "MPO": Odd(encoded(rgb, "MPO", quality=98, **frames), SEEN, tolerance=3 * LOSSY),
        "progressive": Odd(encoded(rgb, "JPEG", quality=98, progressive=True, subsampling=0), SEEN, tolerance=LOSSY),
        "one pixel": Odd(encoded(Image.new("RGB", (1, 1), (9, 8, 7))), np.array([[[9, 8, 7]]], np.uint8)),
        "narrow": Odd(encoded(Image.new("RGB", (1, 60), (9, 8, 7))), np.full((60, 1, 3), (9, 8, 7), np.uint8)),
        "float array": Odd(SEEN / 255, SEEN),
        "16-bit array": Odd(SEEN.astype(np.uint16) * 257, SEEN),
        "grey array": Odd(SEEN[..., :1], GREY),
        "RGBA array": Odd(np.asarray(rgba), ON_WHITE, SEEN),
        "strip": Odd(encoded(Image.new("RGB", (1, 101))), None),
        "bomb": Odd(png_bomb(8_500, 8_500), None),
        "large bomb": Odd(png_bomb(30_000, 30_000), None),
        "truncated": Odd(encoded(Image.fromarray(noise(64)), "JPEG")[:-900], None),
        "zero bytes": Odd(b"", None),
        "no picture": Odd(b"<html>404</html>", None),
        "array of no pixels": Odd(np.zeros((0, 4, 3), np.uint8), None),
    }


def noise(side):
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)


def png_with_key(values, key):
    """Return a PNG of 16-bit greys with a transparent one, which Pillow cannot write."""
    height, width = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    body = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)) + chunk(
        b"tRNS", struct.pack(">H", key)
    )
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
