"""Similarity matrices a few rows at a time, so that none is ever whole, in the forward or in the backward pass."""

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Of one matrix that a chunk makes, 16 MiB in fp32: large enough for a fast matrix product, small beside features.
CHUNK_ELEMENTS = 2**22


def chunks(function: Callable[..., Any], *rows: Tensor, width: int) -> Iterator[Any]:
    """
    What `function` returns for one chunk of the rows after the other.

    What a chunk makes on its way to its result is freed at once and made again in the backward pass, so the memory is that
    of one chunk however many there are. Add the results up as they come, or concatenate them where they are rows.

    Args:
        function (`Callable`): Takes the same rows of each tensor; may close over whole tensors, with gradient.
        rows (`Tensor` of shape `(batch, ...)`): What is cut along its first dimension.
        width (`int`): Elements that `function` makes of one row, normally the columns of its similarity matrix.
    """
    size = max(1, CHUNK_ELEMENTS // width)
    for chunk in zip(*(x.split(size) for x in rows), strict=True):
        yield checkpoint(function, *chunk, use_reentrant=False, preserve_rng_state=False)
