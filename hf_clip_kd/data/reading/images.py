"""Decoding of images: a file becomes an 8-bit RGB picture the right way up, or an error names the reason."""

from __future__ import annotations

import io
import logging
import os
import re
import warnings
from typing import Any

import numpy as np
import torch
from PIL import Image

from ...recipe_io.tokens import without_tokens
from .cells import image_cell, short
from .transparency import flatten
from .worker_counts import SLOTS, WorkerCounts, too_many, worker_slot

logger = logging.getLogger(__name__)

# `decode_image` has limits of its own and names the picture, which Pillow's warning does not.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)

MAX_PIXELS = 2**26
"""Larger pictures (200 MB of RGB) are skipped. A JPEG can be decoded at half its size or less instead."""

MAX_ASPECT = 100
"""Longer strips are skipped: CLIP's shortest-edge resize would blow a 1 x 5000 line up to 224 x 1,120,000."""

_PROGRAMS = ("EPS", "WMF")  # Pillow starts Ghostscript or Windows to draw them. A hostile file may use these.
_PPM = re.compile(rb"P6\s(\d{1,5}) (\d{1,5})\s255\s")  # Comments and other depths are left to Pillow.
_ORIENTATION = 0x0112
_TURNS = dict(enumerate(map(Image.Transpose, (0, 3, 1, 5, 4, 6, 2)), start=2))
_MAX_NAMED = 100
_KEPT, _KEPT_BYTES = 16, 240
_MAX_PATH = 1000  # A longer text is no path.


class BrokenImageError(ValueError):
    """Unusable image: the message names the reason. The collator counts it and goes on."""


def decode_image(value: Any, *, min_side: int | None = None) -> Image.Image:
    """Decode one image to an 8-bit RGB picture, the right way up.

    All roads to a model read pictures by it: training, evaluation, VQA, VLM training, caches and export. 16-bit greys
    and floats are scaled, not clipped, to 8 bits. An animation gives its first frame. Transparency is laid on white.
    Stock pipelines and open_clip drop it instead, see [`flatten`]; training shows both ([`decode_with_alpha`]).

    Args:
        value (`PIL.Image.Image`, `dict`, `bytes`, `str`, `os.PathLike` or `np.ndarray`):
            A picture, an undecoded `datasets.Image` (`{"bytes": ..., "path": ...}`), the bytes of a file, a path, or
            pixels. A text may also be base64, or a `data:` or `file:` URI. Pixels have the shape `(height, width)`
            or `(height, width, channels)`. Channels are 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha). They
            are scaled from their type: 8 or 16 bits, or floats from 0 to 1 or 255.
        min_side (`int`, *optional*):
            The shortest side that is needed, in pixels. A JPEG is then decoded at 1/2, 1/4 or 1/8 of its size, but
            no side becomes shorter. This is several times faster for a photo of 12 megapixels.

    Returns:
        `PIL.Image.Image`: a picture of mode `"RGB"`.

    Raises:
        BrokenImageError: There is no image, it cannot be decoded, or it is too large or too narrow.
    """
    return flatten(decode_with_alpha(value, min_side=min_side))


def decode_with_alpha(value: Any, *, min_side: int | None = None) -> Image.Image:
    """Decode one image as [`decode_image`] does, and keep its transparency for [`flatten`].

    Returns:
        `PIL.Image.Image`: a picture of mode `"RGB"`, or of any mode with transparency.

    Raises:
        BrokenImageError: as for [`decode_image`].
    """
    try:
        plain = _plain(value)
        if plain is not None:
            return plain
        image = _open(value)
        _check_shape(image, value, min_side)
        image.load()
        return _to_8_bits(_upright(image))
    except BrokenImageError:
        raise
    # A damaged file makes decoders raise anything (OSError, SyntaxError, struct.error, zlib.error, IndexError, ...).
    except Exception as error:
        raise BrokenImageError(f"{type(error).__name__}: {error}") from error


def image_path(value: Any) -> str | None:
    """Return the path of an image that [`decode_image`] takes, or `None`. A text too long for a path is cut short."""
    path = value.get("path") if isinstance(value, dict) else getattr(value, "filename", value)
    if not isinstance(path, (str, os.PathLike)) or not str(path):
        return None
    return str(path) if len(str(path)) <= _MAX_PATH else short(str(path))


def image_name(row: dict[str, Any]) -> str:
    """Name a row's image for its user: by its path, its key in a tar, or else its caption."""
    key = image_path(row.get("image")) or row.get("__key__")
    return str(key or f"(no file name; caption {str(row.get('text'))[:60]!r})")


def _plain(value: Any) -> Image.Image | None:
    """Return an undecoded 8-bit PPM without Pillow's reader, which takes ten times as long. Others are `None`."""
    data = value.get("bytes") if isinstance(value, dict) else value
    header = _PPM.match(data) if isinstance(data, bytes) else None
    if header is None:
        return None
    width, height = map(int, header.groups())
    if len(data) != header.end() + 3 * width * height:
        return None
    image = Image.frombuffer("RGB", (width, height), data[header.end() :], "raw", "RGB", 0, 1)
    _check_shape(image, image, None)
    return image


def _open(value: Any) -> Image.Image:
    if isinstance(value, dict):
        value = value["path"] if value.get("bytes") is None else value["bytes"]
    if isinstance(value, str):
        cell = image_cell(value) or {"bytes": None, "path": None}
        value = cell["path"] if cell["bytes"] is None else cell["bytes"]
    if value is None:
        raise BrokenImageError("the row has no image")
    if isinstance(value, str) and len(value) > _MAX_PATH:
        raise BrokenImageError(f"neither a path nor base64: {short(value)}")
    if isinstance(value, Image.Image):
        return value
    if isinstance(value, np.ndarray):
        return Image.fromarray(_scaled(value[..., 0] if value.ndim == 3 and value.shape[2] == 1 else value))
    if isinstance(value, (bytes, bytearray)):
        return Image.open(io.BytesIO(value))
    if "://" in str(value):
        # A file inside a remote folder or an archive, as streamed datasets name it: `zip://a.png::/data/images.zip`.
        from datasets.utils.file_utils import xopen

        with xopen(str(value), "rb") as file:
            return Image.open(io.BytesIO(file.read()))
    return Image.open(value)


def _check_shape(image: Image.Image, value: Any, min_side: int | None) -> None:
    """Refuse an unusable image before its pixels are unpacked; ask a JPEG for a smaller version of itself."""
    if image is not value and image.format in _PROGRAMS:
        raise BrokenImageError(f"a file of {image.format}, which only another program can draw")
    width, height = image.size
    if not min(width, height) or max(width, height) > MAX_ASPECT * min(width, height):
        raise BrokenImageError(f"{width} x {height} pixels: sides differ by more than {MAX_ASPECT} times")
    if image is not value and image.format in ("JPEG", "MPO"):
        if min_side:
            image.draft(None, (min_side, min_side))
        elif width * height > MAX_PIXELS:
            image.draft(None, (width // 2, height // 2))
        width, height = image.size
    if width * height > MAX_PIXELS:
        raise BrokenImageError(f"{width} x {height} pixels: more than {MAX_PIXELS:,}")


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # A picture with an unreadable EXIF block is still a good picture.
        orientation = None
    if orientation == 1:
        return image
    turned = image.transpose(_TURNS[orientation]) if orientation in _TURNS else image.copy()
    # A later reader must not turn the picture once more, nor meet the unreadable block.
    turned.info = {key: value for key, value in image.info.items() if key == "transparency"}
    return turned


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Convert a decoded picture to RGB, or to a mode with transparency, of 8 bits."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        clear = image.info.get("transparency")
        image = Image.fromarray(_scaled(values))
        if clear is not None:
            image.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    # A palette stays small until it is laid on white; a key colour (tRNS) is looked up now.
    return image.convert("RGBA") if image.mode in ("1", "L", "RGB") else image


def _scaled(values: np.ndarray) -> np.ndarray:
    """Scale pixels of 16 bits, 32 bits or floats to 8 bits. PIL's `convert` clips at 255 and leaves a white page."""
    if values.dtype == np.uint8:
        return values
    if not (finite := np.isfinite(values)).all():
        raise BrokenImageError(f"{np.sum(~finite):,} of {values.size:,} pixels are no finite numbers")
    scaled = values.astype(np.float32)
    largest = scaled.max()
    if values.dtype.kind in "fb":
        scaled = np.minimum(scaled, 1) * 255 if largest <= 1 else scaled  # Floats range from 0 to 1 or from 0 to 255.
    elif values.dtype.itemsize == 2 or largest > 255:
        scaled = scaled / 257  # 65535 -> 255. Mode I (32 bits) holds 16-bit greys in files written by older tools.
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


class BrokenImages:
    """Count unreadable rows, name each once in the log, and stop the run at too many.

    The counts and the first names of each worker live in shared memory, see [`WorkerCounts`]. Names are logged by the
    worker that met them.

    Args:
        max_fraction (`float`, *optional*, defaults to `0.05`):
            The run stops when a larger share of the rows is broken. `1.0` stops only at the end, without a usable row.
        min_seen (`int`, *optional*, defaults to `100`):
            Rows to see before the share counts. The end of a run has another rule for fewer, see [`too_many`].
    """

    def __init__(self, max_fraction: float = 0.05, min_seen: int = 100):
        if not 0 <= max_fraction <= 1:
            raise ValueError(
                f"`max_broken_fraction={max_fraction}` is not a share. It must lie between 0 (stop at the first "
                "unusable row) and 1 (never stop). Pass for example `max_broken_fraction=0.05`."
            )
        self.max_fraction = max_fraction
        self.min_seen = min_seen
        self.counts = WorkerCounts(("seen", "broken"))
        # Name and reason in UTF-8.
        self.kept = torch.zeros(SLOTS, _KEPT, _KEPT_BYTES, dtype=torch.uint8).share_memory_()
        self.named: set[str] = set()

    @property
    def seen(self) -> int:
        return self.counts.total("seen")

    @property
    def broken(self) -> int:
        return self.counts.total("broken")

    def __str__(self) -> str:
        return f"{self.broken} of {self.seen} rows skipped as broken"

    @property
    def names(self) -> list[str]:
        """List of `name (reason)` of the first few broken rows of each worker."""
        used = self.kept[self.kept[..., 0] > 0].numpy()
        return sorted({bytes(row).rstrip(b"\0").decode("utf-8", errors="ignore") for row in used})

    def add(self, seen: int, broken: list[tuple[str, str]]) -> None:
        """Count one batch.

        Args:
            seen (`int`): Rows in the batch, broken ones included.
            broken (`list` of `(name, reason)`): The rows that could not be used.

        Raises:
            ValueError: More than `max_fraction` of at least `min_seen` rows is broken.
        """
        self.counts.add("seen", seen)
        if not broken:
            return
        self.counts.add("broken", len(broken))
        for name, reason in broken:
            # The address of a picture may hold a token.
            self._name(without_tokens(name), without_tokens(reason), self.kept[worker_slot()])
        total = self.seen
        if too_many(self.broken, total, self.max_fraction, least=self.min_seen, ended=False):
            name, reason = broken[-1]
            raise self._refusal(f"{self.broken} of the first {total} rows are broken, the last one {name} ({reason})")

    def check(self) -> None:
        """Judge all rows at the end of a run, however few they are.

        Raises:
            ValueError: Too many of the rows are broken, or none is usable, see [`too_many`].
        """
        if too_many(self.broken, self.seen, self.max_fraction, least=self.min_seen, ended=True):
            raise self._refusal(f"{self.broken} of {self.seen} rows are broken, among them {self.names[0]}")

    def _refusal(self, problem: str) -> ValueError:
        return ValueError(
            f"{problem}. At most a share of max_broken_fraction={self.max_fraction} is skipped, and one row must be "
            "usable. Repair or remove the files named in the log, or pass a larger share: `CLIPDataCollator(..., "
            "max_broken_fraction=...)`, in a recipe `--max_broken_fraction`."
        )

    def _name(self, name: str, reason: str, kept: torch.Tensor) -> None:
        if name in self.named or len(self.named) > _MAX_NAMED:
            return
        self.named.add(name)
        free = int((kept[:, 0] > 0).sum())  # Workers start anew in every epoch, and their place remains.
        if free < _KEPT:
            text = f"{name} ({reason})".encode(errors="replace")[:_KEPT_BYTES]
            kept[free, : len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        if len(self.named) <= _MAX_NAMED:
            logger.warning("Skipped a broken row: %s (%s)", name, reason)
        else:
            logger.warning("More than %d broken rows; further ones are counted, not named.", _MAX_NAMED)
