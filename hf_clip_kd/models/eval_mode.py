"""A model in eval mode for as long as somebody looks at it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Puts `model` in eval mode and gives each of its modules its own mode back, also after an error."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        # Module by module: `model.train()` would also wake up parts that are frozen in eval mode.
        for module, mode in modes:
            module.training = mode


__all__ = ["eval_mode"]
