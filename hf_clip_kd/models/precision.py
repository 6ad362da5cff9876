"""Numbers in float32 or better."""

import logging

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

logger = logging.getLogger(__name__)


def upcast(x: Tensor) -> Tensor:
    """Return half-precision numbers in float32, and others as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def set_precision(model: PreTrainedModel, dtype: str) -> None:
    """
    Bring the weights of a model to the type that they are trained in, and log a change.

    A step in half precision is often smaller than half the distance to the next number. Then it is lost.

    Args:
        model ([`~transformers.PreTrainedModel`]): A student; changed in place.
        dtype (`str`): `"float32"` changes half-precision weights alone. `"bfloat16"` or `"float16"` changes all.
    """
    wanted = getattr(torch, dtype)
    floating = [parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()]
    kept = (torch.float32, torch.float64) if wanted == torch.float32 else (wanted,)
    other = sorted({str(own).removeprefix("torch.") for own in floating if own not in kept})
    if not other:
        return
    logger.warning(
        "The student's weights are %s, and are trained and saved as %s. The argument `dtype` decides.",
        " and ".join(other),
        dtype,
    )
    model.to(wanted)
    # A tower that is loaded alone reads the type from its own configuration.
    for config in (model.config, *(getattr(model.config, name) for name in model.config.sub_configs)):
        config.dtype = wanted


def warn_of_half_precision(model: nn.Module) -> None:
    """Warn of weights in half precision that learn, for a trainer that leaves their type as it was asked for."""
    learning = {parameter.dtype for parameter in model.parameters() if parameter.requires_grad}
    if half := learning & {torch.bfloat16, torch.float16}:
        logger.warning(
            "The weights that learn are %s, in which most small steps of an optimizer are lost. Load them with "
            "`dtype=torch.float32`. `bf16=True` computes as fast, and keeps float32 weights.",
            " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in half)),
        )


__all__ = ["set_precision", "upcast", "warn_of_half_precision"]
