"""Weights of a checkpoint, each of them or an error."""

from __future__ import annotations

from collections.abc import Collection

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
    if lost := sorted(reshaped | set(report["missing_keys"])):
        more = f" and {len(lost) - SHOWN} more" if len(lost) > SHOWN else ""
        raise ValueError(
            f"The checkpoint {folder!r} has no weights that fit {', '.join(lost[:SHOWN])}{more} of "
            f"{type(model).__name__}. A run resumes with all of its weights. Resume from another checkpoint, or start "
            "with the model that the run had."
        )
    state, own = dict(saved.state_dict()), model.state_dict()
    state |= {name: own[name] for name in elsewhere if name in own}
    model.load_state_dict(state, strict=True)
