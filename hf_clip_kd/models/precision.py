"""Numbers in float32 or better."""

import torch
from torch import Tensor


def upcast(x: Tensor) -> Tensor:
    """Return half-precision numbers in float32, and others as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


__all__ = ["upcast"]
