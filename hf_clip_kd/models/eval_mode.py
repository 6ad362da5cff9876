"""Context that keeps a model in eval mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put `model` in eval mode. At the end each module gets its own mode back, also after an error."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        # `model.train()` would also change the parts that stay in eval mode because they are frozen.
        for module, mode in modes:
            module.training = mode


__all__ = ["eval_mode"]
