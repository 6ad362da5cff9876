"""How squared distances of embeddings become one number: added up over the width, or averaged as published."""

from torch import Tensor, nn

REDUCTIONS = ("sum", "mean")


def checked_reduction(loss: nn.Module, reduction: str | None, upstream_compat: bool) -> str:
    """
    The reduction over the width that a loss's options ask for: by default `"sum"`, or `"mean"` as published.

    Args:
        loss (`nn.Module`): Who asks, for the error; a loss has the name of its file.
        reduction (`str`, *optional*), upstream_compat (`bool`): Its options.

    Raises:
        ValueError: If `reduction` is neither `"sum"` nor `"mean"`.
    """
    if reduction is None:
        reduction = "mean" if upstream_compat else "sum"
    if reduction not in REDUCTIONS:
        name = type(loss).__module__.rpartition(".")[2]
        raise ValueError(
            f"reduction={reduction!r} is no reduction of the loss {name!r}. Allowed are {list(REDUCTIONS)}, for example "
            f"`losses={{{name!r}: {{'reduction': 'sum'}}}}`."
        )
    return reduction


def reduce_width(squared: Tensor, reduction: str) -> Tensor:
    """The mean over the batch of `(batch, width)` values, 0-dim, with their sum or their mean over the width."""
    return squared.mean() if reduction == "mean" else squared.sum(dim=-1).mean()
