"""Weights of a checkpoint, each of them or an error."""

from __future__ import annotations

import os
from collections.abc import Collection

from peft import PeftModel, get_peft_model_state_dict
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors import safe_open
from transformers import PreTrainedModel

from ..models.completeness import REPORTED, RESUME_RULE, check_complete
from .checkpoint_reading import reading


def load_weights(model: PreTrainedModel, folder: str, elsewhere: Collection[str] = ()) -> None:
    """
    Load the weights of a checkpoint into a model.

    `save_pretrained` may write other names than the live module has, and `from_pretrained` reads them. The Trainer's
    own way would pass over them.

    Args:
        model ([`~transformers.PreTrainedModel`]): The model, in place.
        folder (`str`): The checkpoint.
        elsewhere (`Collection[str]`, *optional*): Names whose values the caller has from elsewhere. They may have
            another shape in the file.

    Raises:
        ValueError: The checkpoint lacks weights, or has them in another shape.
    """
    with reading(folder):
        saved, report = type(model).from_pretrained(folder, dtype=model.dtype, **REPORTED)
    reshaped = [key for key in report["mismatched_keys"] if key[0] not in elsewhere]
    check_complete(report | {"mismatched_keys": reshaped}, repr(folder), model, RESUME_RULE)
    own = model.state_dict()
    model.load_state_dict(saved.state_dict() | {name: own[name] for name in elsewhere if name in own}, strict=True)


def check_adapter(model: PeftModel, folder: str) -> None:
    """
    Check that a checkpoint holds all adapters of a model. `peft` would leave those that it lacks as they are.

    Raises:
        ValueError: The checkpoint lacks weights.
    """
    path = os.path.join(folder, SAFETENSORS_WEIGHTS_NAME)
    with reading(path), safe_open(path, framework="pt") as file:
        missing = get_peft_model_state_dict(model).keys() - set(file.keys())
    check_complete({"missing_keys": missing, "mismatched_keys": []}, repr(folder), model, RESUME_RULE)
