"""Similarity matrices in chunks of rows: no pass, forward or backward, ever holds a complete matrix."""

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Elements of a chunk's matrix, 16 MiB in fp32: large enough for a fast matrix product, small compared with features.
CHUNK_ELEMENTS = 2**22


def chunks(function: Callable[..., Any], *rows: Tensor, width: int) -> Iterator[Any]:
    """
    Yield the result of `function` for each chunk of rows.

    Intermediate tensors of a chunk are freed at once and computed again in the backward pass. The memory is therefore
    that of one chunk. Add the results up as they come, or concatenate them if they are rows.

    Args:
        function (`Callable`): Function of the same rows of each tensor. It may close over whole tensors, with
            gradient.
        rows (`Tensor` of shape `(batch, ...)`): Tensors to cut along their first dimension.
        width (`int`): Elements that `function` makes of one row, normally the columns of its similarity matrix.
    """
    size = max(1, CHUNK_ELEMENTS // width)
    for chunk in zip(*(x.split(size) for x in rows), strict=True):
        yield checkpoint(function, *chunk, use_reentrant=False, preserve_rng_state=False)
