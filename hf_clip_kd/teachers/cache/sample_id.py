"""Number of a sample: the same wherever the sample stands in the data."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...data.exchanges import every_exchange
from ...data.reading.images import BrokenImageError, decode_image
from ...data.reading.tars import ERROR
from ...data.texts import usable_captions


def sample_id(image: Any, captions: Sequence[str] = ()) -> int:
    """
    Hash an image and its captions to 64 bits.

    Two of ten million samples share a number by a chance of 1 in 300,000. The number depends on contents alone. Data
    that were moved, shuffled, cut or mixed keep their numbers. A sample with a changed file or caption has another
    one. An image that lies on a server counts by its address.

    Args:
        image (`PIL.Image.Image`, `dict`, `bytes`, `str`, `os.PathLike` or `np.ndarray`):
            An image that [`decode_image`] could read.
        captions (`Sequence[str]`, *optional*): Captions of the image, in their order.

    Returns:
        `int`: 64 bits, with sign.
    """
    return _hash(_contents(image), captions)


def text_ids(row: dict[str, Any], captions: Sequence[str], generated: Sequence[str], readers: bool) -> dict[str, int]:
    """
    Hash the texts of a row beside its captions, as far as a cache may hold their features.

    Rows of one image and caption differ in them, such as the questions of a picture.

    Args:
        row (`dict`): A row, perhaps with questions.
        captions, generated (`Sequence[str]`): Its captions, and its generated ones.
        readers (`bool`): Hash what readers read, too.

    Returns:
        `dict[str, int]`: `synthetic_ids` of generated captions and `exchange_ids` of what readers read, as far as
        there are any. Each has 64 bits, with sign.
    """
    ids = {"synthetic_ids": _hash(b"", generated)} if generated else {}
    if readers:
        read = every_exchange(row, captions)
        ids["exchange_ids"] = _hash(b"", [text or "" for exchange in read for text in exchange])
    return ids


def _hash(start: bytes, texts: Sequence[str]) -> int:
    digest = hashlib.sha256(start)
    for text in texts:
        digest.update(b"\0" + text.encode("utf-8", errors="surrogatepass"))
    return int.from_bytes(digest.digest()[:8], "little", signed=True)


def _contents(image: Any) -> bytes:
    if isinstance(image, dict):
        image = image["path"] if image.get("bytes") is None else image["bytes"]
    if isinstance(image, Image.Image):
        return repr((image.mode, image.size)).encode() + image.tobytes()
    if isinstance(image, np.ndarray):
        return repr((image.dtype.str, image.shape)).encode() + image.tobytes()
    if isinstance(image, (str, os.PathLike)):
        return str(image).encode() if "://" in str(image) else Path(image).read_bytes()
    return image


def probe(dataset: Any, count: int = 16) -> list[int]:
    """
    Return the numbers of some samples: evenly spread over a data set, or the first of a stream.

    Args:
        dataset (`datasets.Dataset` or `datasets.IterableDataset`): Rows, as [`load_image_text`] returns them.
        count (`int`, *optional*, defaults to `16`): Rows to look at. Those that no cache holds are left out.
    """
    if hasattr(dataset, "__len__"):
        count = min(count, len(dataset))
        rows = (dataset[i * len(dataset) // count] for i in range(count))
    else:
        rows = islice(dataset, count)
    ids = []
    for row in rows:
        if row.get(ERROR):
            continue
        try:
            decode_image(row.get("image"))
            if "synthetic_text" in row:
                usable_captions(row["synthetic_text"], "generated caption")
            ids.append(sample_id(row["image"], usable_captions(row.get("text"), "caption")))
        except BrokenImageError:
            continue
    return ids
