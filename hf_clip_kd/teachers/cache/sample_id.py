"""One number by which a sample is found again, wherever it stands in the data."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from ...data.collator import usable_captions
from ...data.reading.images import BrokenImageError, decode_image


def sample_id(image: Any, captions: Sequence[str] = ()) -> int:
    """
    A hash of an image and its captions: 64 bits, of which ten million samples share one by a chance of 1 in 300,000.

    It depends on contents alone: data that were moved, shuffled, cut or mixed keep their numbers, and a sample whose file
    or caption was changed has another one. An image that lies on a server counts by its address.

    Args:
        image (`PIL.Image.Image`, `dict`, `bytes`, `str` or `os.PathLike`): As for [`decode_image`], which was called first.
        captions (`Sequence[str]`, *optional*): Those of the image, in their order.

    Returns:
        `int`: of 64 bits, with sign.
    """
    digest = hashlib.sha256(_contents(image))
    for caption in captions:
        digest.update(b"\0" + caption.encode("utf-8", errors="surrogatepass"))
    return int.from_bytes(digest.digest()[:8], "little", signed=True)


def _contents(image: Any) -> bytes:
    if isinstance(image, dict):
        image = image["path"] if image.get("bytes") is None else image["bytes"]
    if isinstance(image, Image.Image):
        return repr((image.mode, image.size)).encode() + image.tobytes()
    if isinstance(image, (str, os.PathLike)):
        return str(image).encode() if "://" in str(image) else Path(image).read_bytes()
    return image


def probe(dataset: Any, count: int = 16) -> list[int]:
    """
    The numbers of some samples: evenly spread over a data set, or the first of a stream.

    Args:
        dataset (`datasets.Dataset` or `datasets.IterableDataset`): As [`load_image_text`] returns it.
        count (`int`, *optional*, defaults to `16`): How many rows are looked at; those that cannot be used are left out.
    """
    if hasattr(dataset, "__len__"):
        rows = (dataset[i * len(dataset) // count] for i in range(min(count, len(dataset))))
    else:
        rows = islice(dataset, count)
    ids = []
    for row in rows:
        try:
            decode_image(row.get("image"))
            ids.append(sample_id(row["image"], usable_captions(row.get("text"), "caption")))
        except BrokenImageError:
            continue
    return ids
