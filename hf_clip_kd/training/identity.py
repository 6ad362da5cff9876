"""What a resumed run must have in common with the one it goes on with: enough to tell it from another, cheap to find out."""

from __future__ import annotations

import hashlib
from itertools import islice
from typing import Any

import datasets
from PIL import Image

ROWS = 16  # of a data set that are looked at


def data_identity(dataset: Any) -> dict[str, Any]:
    """
    Size and a digest of some rows.

    Args:
        dataset: Of `datasets`, a [`Stream`] of several, or any other, of which only size and class count: its rows may be
            made of chance.
    """
    if hasattr(dataset, "sources"):
        sources = [data_identity(source.dataset) for source in dataset.sources]
        return {
            "sources": dict(enumerate(sources)),
            "shares": str(dataset.limits),
            "seed": dataset.seed,
            "buffer_size": dataset.buffer_size,
        }
    if isinstance(dataset, datasets.Dataset):
        plain = dataset.with_format(None)  # without a transform that draws
        count = len(plain)
        return {"rows": count, "content": _digest([plain[i * count // ROWS] for i in range(min(ROWS, count))])}
    if isinstance(dataset, datasets.IterableDataset):
        # One row: each costs a request where the data lie on a server.
        return {"shards": dataset.num_shards, "content": _digest(list(islice(dataset, 1)))}
    return {"rows": len(dataset) if hasattr(dataset, "__len__") else None, "class": type(dataset).__name__}


def _digest(rows: list[Any]) -> str:
    digest = hashlib.sha256()
    _feed(digest, rows)
    return digest.hexdigest()[:16]


def _feed(digest: Any, value: Any) -> None:
    if isinstance(value, dict):
        # Of an image in a file, bytes or path: folders may move.
        value = {"bytes": value["bytes"]} if value.get("bytes") is not None else value
        value = [part for item in value.items() for part in item]
    if isinstance(value, list | tuple):
        digest.update(f"[{len(value)}".encode())
        for part in value:
            _feed(digest, part)
    elif isinstance(value, Image.Image):
        digest.update(f"{value.mode}{value.size}".encode() + value.tobytes())
    else:
        digest.update(value if isinstance(value, bytes) else repr(value).encode())
