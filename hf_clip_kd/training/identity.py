"""Identity of a run, which a resumed run must share: enough to tell runs apart, and cheap to find."""

from __future__ import annotations

import hashlib
from itertools import islice
from typing import Any

import datasets
from PIL import Image
from transformers import Trainer

from .flags import run_flags

ROWS = 16  # rows of a data set that the digest reads


def run_identity(trainer: Trainer) -> dict[str, Any]:
    """Return the engine, the number of processes, the flags and the data of a run, in JSON's types."""
    args = trainer.args
    engine = "deepspeed" if trainer.is_deepspeed_enabled else "fsdp" if trainer.is_fsdp_enabled else "replicas"
    return {
        "engine": engine,
        "processes": args.world_size,
        "arguments": run_flags(args),
        "data": {
            **data_identity(trainer.train_dataset),
            "batch_size": args.train_batch_size,
            "gradient_accumulation_steps": args.gradient_accumulation_steps,
            "order": {"seed": args.seed, "data_seed": args.data_seed},
        },
    }


def data_identity(dataset: Any) -> dict[str, Any]:
    """
    Return the size of a data set and a digest of some rows.

    Args:
        dataset: A data set of `datasets`, or a [`Stream`]. Only size and class count of any other, whose rows may be
            random.
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
        plain = dataset.with_format(None)  # a transform may be random
        count = len(plain)
        return {"rows": count, "content": _digest([plain[i * count // ROWS] for i in range(min(ROWS, count))])}
    if isinstance(dataset, datasets.IterableDataset):
        # One row is enough: each costs a request where the data lie on a server.
        return {"shards": dataset.num_shards, "content": _digest(list(islice(dataset, 1)))}
    return {"rows": len(dataset) if hasattr(dataset, "__len__") else None, "class": type(dataset).__name__}


def _digest(rows: list[Any]) -> str:
    digest = hashlib.sha256()
    _feed(digest, rows)
    return digest.hexdigest()[:16]


def _feed(digest: Any, value: Any) -> None:
    if isinstance(value, dict):
        # An image in a file has bytes or a path, and folders may move.
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
