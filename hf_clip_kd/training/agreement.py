"""Agreement of the processes of a run before its first step: the same settings, model, data and versions."""

from __future__ import annotations

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from torch.utils.data import IterableDataset
from transformers import Trainer

from .checkpoint_files import differences
from .distributed import gather_objects, world_size
from .evaluation import named_datasets
from .flags import FREE, RESUME, values_of
from .peers import Peers

PACKAGES = ("hf_clip_kd", "torch", "transformers", "accelerate", "datasets", "numpy", "pillow")
PACKAGES += ("timm", "safetensors", "tokenizers", "peft", "deepspeed")  # The last need not be there.


def check_agreement(facts: dict[str, Any]) -> None:
    """
    Compare facts of all processes, which must call this together.

    Args:
        facts (`dict`): Values by name, as JSON has them, which must be the same on each process.

    Raises:
        ValueError: A process has others, on all processes alike. Those of most processes are the measure.
    """
    if world_size() == 1:
        return
    told = gather_objects(json.dumps(facts, default=str, sort_keys=True))
    measure = Counter(told).most_common(1)[0][0]
    first = told.index(measure)
    found = [
        f"{name}: {values[0]} on rank {first}, {values[1]} on rank {number}"
        for number, text in enumerate(told)
        for name, *values in differences(json.loads(measure), json.loads(text))
    ]
    if found:
        raise ValueError(
            f"The processes of this run disagree. {'; '.join(found)}. All must have the same settings, model, data "
            "and versions, or they would wait for each other for ever. Start them with the same command and file, "
            "and install the same packages on each machine."
        )


@contextmanager
def working_together(arguments: Any) -> Iterator[None]:
    """
    Compare versions and arguments of the processes of a recipe, and name the rank that is lost while they work.

    All processes must enter and leave together. A trainer does the same on its own.

    Args:
        arguments (dataclass): The arguments of the recipe.

    Raises:
        ValueError: The processes disagree, see [`check_agreement`].
        RuntimeError: Another process has gone, see [`Peers`].
    """
    with Peers().watching():
        check_agreement({"versions": versions(), "arguments": asdict(arguments)})
        yield
        # A process that has nothing to wait for would not notice the end of others.
        gather_objects("done")


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of each package, `None` for one that is not installed."""
    found: dict[str, str | None] = {"python": ".".join(platform.python_version_tuple()[:2])}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def settings(trainer: Trainer) -> dict[str, Any]:
    """Return what is known of a run before its teacher is placed, and costs nothing to know."""
    args, model = trainer.args, trainer.model
    names = [name for name, rule in RESUME.items() if rule != FREE]
    if hasattr(trainer.train_dataset, "loader"):  # Readers share out its shards by their number.
        names.append("dataloader_num_workers")
    shapes = [(name, tuple(p.shape), p.requires_grad) for name, p in model.named_parameters()]
    return {
        "versions": versions(),
        "arguments": values_of(args, names),
        "model": {
            "parameters": sum(p.numel() for p in model.parameters()),
            "shapes": hashlib.sha256(repr(shapes).encode()).hexdigest()[:16],
        },
        "rows": {
            name: len(dataset) if hasattr(dataset, "__len__") else None
            for name, dataset in {
                "train": trainer.train_dataset,
                **named_datasets(None, trainer.eval_dataset, "eval"),
            }.items()
        },
    }


def shared_identity(trainer: Trainer, identity: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a run's identity that all processes share. A stream may have been dealt out to them."""
    dataset = trainer.train_dataset
    dealt = isinstance(dataset, IterableDataset) and not hasattr(dataset, "loader")
    return {name: value for name, value in identity.items() if name != "data" or not dealt}
