"""A context that holds a model in eval mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put `model` in eval mode, and give each of its modules its own mode back, also after an error."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        # `model.train()` would also wake up parts that are frozen in eval mode.
        for module, mode in modes:
            module.training = mode


__all__ = ["eval_mode"]
