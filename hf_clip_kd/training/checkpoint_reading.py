"""Errors of a checkpoint's files, which libraries tell in words of their own, and without the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import TrainerState

from ..models.loader_faults import reason_of
from ..recipe_io.foreign import fields
from .distributed import talk_failed

_FIX = "Restore its files, or resume from another checkpoint: `--resume_from_checkpoint FOLDER`."


@contextmanager
def reading(place: str | Path) -> Iterator[None]:
    """
    Turn every error of a library that reads a checkpoint into a `ValueError` that names it.

    Errors about memory, and those of processes that cannot talk to each other, stay as they are. So do those which
    name the place already.

    Args:
        place (`str` or `Path`): The checkpoint, or the file in it.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # Damaged files make readers raise errors of any type.
        if talk_failed(error) or (isinstance(error, ValueError) and str(place) in str(error)):
            raise
        raise ValueError(
            f"The checkpoint {str(place)!r} cannot be read ({type(error).__name__}: {reason_of(error)}). It must be "
            f"as it was saved. {_FIX}"
        ) from error


def load_part(path: str | Path) -> dict[str, Tensor]:
    """
    Return the tensors of a safetensors file in a checkpoint.

    Raises:
        ValueError: The file is damaged.
    """
    with reading(path):
        return load_file(path)


@contextmanager
def finite(model: nn.Module, optimizer: Any) -> Iterator[None]:
    """
    Check at the end what a checkpoint has filled. No training leaves such numbers, and the next step would fail.

    Raises:
        ValueError: A weight, or a number of the optimizer, is NaN or infinite.
    """
    yield
    held = [(f"the weight {name!r}", values) for name, values in model.named_parameters()]
    for state in optimizer.state.values():
        held += [(f"the optimizer's {name!r} of a weight", values) for name, values in state.items()]
    for name, values in held:
        values = getattr(values, "_local_tensor", values)  # Each process looks at its own part.
        if isinstance(values, Tensor) and values.is_floating_point() and not values.isfinite().all():
            raise ValueError(f"{name} is NaN or infinite")


def check_state(folder: Path) -> None:
    """
    Check the file in which the Trainer notes its place, before anything is built on it.

    Raises:
        ValueError: The file is damaged, or a field is of another type.
    """
    path = folder / "trainer_state.json"
    kinds = {
        "global_step": int,
        "max_steps": int,
        "epoch": float | None,
        "num_train_epochs": float,
        "log_history": list,
    }
    kinds |= {"stateful_callbacks": dict, "best_model_checkpoint": str | None, "train_batch_size": int | None}
    words = {"allowed": "It must be as the Trainer wrote it.", "fix": _FIX}
    with reading(path):
        # The Trainer notes a loss that is not a number as NaN, which strict JSON does not have.
        state = TrainerState.load_from_json(str(path))
    fields(vars(state), kinds, path, where="the file", **words)
