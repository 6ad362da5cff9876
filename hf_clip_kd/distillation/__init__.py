"""A student with its losses, and a teacher beside it: the trainer, its arguments and the one module it wraps."""

from importlib import import_module
from typing import Any

# Imported at its first use, since a recipe reads its arguments before all else.
_PLACE = {
    "CLIPDistillationTrainer": "trainer",
    "DistillationModel": "model",
    "DistillationTrainer": "trainer",
    "DistillationTrainingArguments": "training_args",
}

__all__ = sorted(_PLACE)


def __getattr__(name: str) -> Any:
    if name in _PLACE:
        return getattr(import_module(f".{_PLACE[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
