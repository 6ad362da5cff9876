"""Reduction of squared distances of embeddings to one number: a sum over the width, or a mean as published."""

from torch import Tensor, nn

REDUCTIONS = ("sum", "mean")


def checked_reduction(loss: nn.Module, reduction: str | None, upstream_compat: bool) -> str:
    """
    Return the reduction over the width from a loss's options: `"sum"` by default, or `"mean"` as published.

    Args:
        loss (`nn.Module`): The loss, for the error. A loss has the name of its file.
        reduction (`str`, *optional*), upstream_compat (`bool`): Options of the loss.

    Raises:
        ValueError: if `reduction` is neither `"sum"` nor `"mean"`.
    """
    if reduction is None:
        reduction = "mean" if upstream_compat else "sum"
    if reduction not in REDUCTIONS:
        name = type(loss).__module__.rpartition(".")[2]
        raise ValueError(
            f"reduction={reduction!r} is no reduction of the loss {name!r}. Allowed are {list(REDUCTIONS)}. Write for "
            f"example `losses={{{name!r}: {{'reduction': 'sum'}}}}`."
        )
    return reduction


def reduce_width(squared: Tensor, reduction: str) -> Tensor:
    """Reduce `(batch, width)` values to their mean over the batch, 0-dim, of the sum or mean over the width."""
    return squared.mean() if reduction == "mean" else squared.sum(dim=-1).mean()
