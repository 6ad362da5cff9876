"""Weights of a checkpoint, each of them or an error."""

from __future__ import annotations

import os
from collections.abc import Collection

from peft import PeftModel, get_peft_model_state_dict
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors import safe_open
from torch import nn
from transformers import PreTrainedModel

SHOWN = 4  # names in a message


def load_weights(model: PreTrainedModel, folder: str, elsewhere: Collection[str] = ()) -> None:
    """
    Load the weights of a checkpoint into a model.

    `save_pretrained` may write other names than the live module has, and `from_pretrained` reads them. It gives random
    weights to names that the file lacks. A run would resume without its training.

    Args:
        model ([`~transformers.PreTrainedModel`]): The model, in place.
        folder (`str`): The checkpoint.
        elsewhere (`Collection[str]`, *optional*): Names that may have another shape in the file, as the caller has
            their values from elsewhere.

    Raises:
        ValueError: The checkpoint lacks weights, or has them in another shape.
    """
    saved, report = type(model).from_pretrained(
        folder, dtype=model.dtype, ignore_mismatched_sizes=True, output_loading_info=True
    )
    reshaped = {name for name, *_ in report["mismatched_keys"]} - set(elsewhere)
    _refuse(reshaped | set(report["missing_keys"]), model, folder)
    state, own = dict(saved.state_dict()), model.state_dict()
    state |= {name: own[name] for name in elsewhere if name in own}
    model.load_state_dict(state, strict=True)


def check_adapter(model: PeftModel, folder: str) -> None:
    """
    Check that a checkpoint holds all adapters of a model. `peft` would leave those that it lacks as they are.

    Raises:
        ValueError: The checkpoint lacks weights.
    """
    with safe_open(os.path.join(folder, SAFETENSORS_WEIGHTS_NAME), framework="pt") as file:
        _refuse(get_peft_model_state_dict(model).keys() - set(file.keys()), model, folder)


def _refuse(lost: Collection[str], model: nn.Module, folder: str) -> None:
    if lost:
        names, more = sorted(lost), f" and {len(lost) - SHOWN} more" if len(lost) > SHOWN else ""
        raise ValueError(
            f"The checkpoint {folder!r} has no weights that fit {', '.join(names[:SHOWN])}{more} of "
            f"{type(model).__name__}. A run resumes with all of its weights. Resume from another checkpoint, or start "
            "with the model that the run had."
        )
