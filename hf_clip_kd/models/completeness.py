"""Checkpoints of transformers have all weights of their model: no loader lets one pass that lacks some."""

from typing import Any

from torch import nn
from transformers import PreTrainedModel

# Arguments of `from_pretrained`: it then reports what is missing or of another shape, and raises nothing of its own.
REPORTED = {"output_loading_info": True, "ignore_mismatched_sizes": True}

# Rules for a model to train on, for a model to be scored, and for a checkpoint of a run.
SAVE_RULE = "Allowed are complete weights. Save the whole model with model.save_pretrained."
SCORE_RULE = "Only complete weights have scores. Save the whole model with model.save_pretrained and give that folder."
RESUME_RULE = "A run resumes from all its weights. Resume from an earlier `checkpoint-N` folder."


def load_complete(model_class: type, name: str, rule: str, **from_pretrained_kwargs) -> PreTrainedModel:
    """
    Load a model of transformers that has all its weights in its folder.

    Args:
        model_class (`type`):
            Class with `from_pretrained`.
        name (`str`):
            A folder or Hub id.
        rule (`str`):
            See [`check_complete`].
        from_pretrained_kwargs:
            With `ignore_mismatched_sizes=True` tensors of another shape are allowed and start anew.

    Raises:
        ValueError: A tensor is missing or has another shape.
    """
    model, report = model_class.from_pretrained(name, **from_pretrained_kwargs | REPORTED)
    allow_other_shapes = from_pretrained_kwargs.get("ignore_mismatched_sizes", False)
    check_complete(report, repr(name), model, rule, allow_other_shapes=allow_other_shapes)
    return model


def check_complete(
    report: dict[str, Any], name: str, model: nn.Module, rule: str, *, prefix: str = "", allow_other_shapes=False
) -> None:
    """
    Refuse weights that lack tensors of their model, or have them in another shape.

    Args:
        report (`dict`):
            What `from_pretrained(..., **REPORTED)` returns with the model.
        name (`str`):
            Origin of the weights, for the error.
        model (`torch.nn.Module`):
            The model that needs them, for the error.
        rule (`str`):
            Last two sentences of the error: what is allowed, and the fix.
        prefix (`str`, *optional*, defaults to `""`):
            Start of the names of the tensors that are needed.
        allow_other_shapes (`bool`, *optional*, defaults to `False`):
            Allow a tensor of another shape. transformers has then initialised it.

    Raises:
        ValueError: A tensor is missing or has another shape.
    """
    lacking = {key: key for key in report["missing_keys"]}
    if not allow_other_shapes:
        for key, stored, own in report["mismatched_keys"]:
            lacking[key] = f"{key}, of shape {tuple(stored)} instead of {tuple(own)}"
    if lacking := [lacking[key] for key in sorted(lacking) if key.startswith(prefix)]:
        raise ValueError(
            f"The weights of {name} lack {len(lacking)} tensors of {type(model).__name__} (such as {lacking[0]}), "
            f"which would stay random. {rule}"
        )


__all__ = ["REPORTED", "RESUME_RULE", "SAVE_RULE", "SCORE_RULE", "check_complete", "load_complete"]
