"""The one rule for texts: how many tokens a text tower takes, and how a tokenizer is fitted to it."""

from __future__ import annotations

import copy
import logging
from typing import Any

from tokenizers.normalizers import Lowercase
from tokenizers.normalizers import Sequence as Normalizers
from torch import Tensor, nn
from transformers import CLIPTextConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast

logger = logging.getLogger(__name__)

# Text towers that were trained on lower case, padded to the full length, without a mask.
LOWER_CASE = ("siglip_text_model", "siglip2_text_model")
CAPITALS = "A \u00c9 \u0416"
# transformers writes 1e30 where a tokenizer does not know its limit.
UNKNOWN_LENGTH = 100_000


def context_length(model: nn.Module) -> int | None:
    """
    Return the number of tokens that the text tower of a dual encoder takes at most.

    It is the number of positions that a token can have. RoBERTa's begin behind the padding's, so it has fewer tokens
    than positions. `None` if the configuration names no positions.
    """
    positions = getattr(_text_config(model), "max_position_embeddings", None)
    if positions is None:
        return None
    tables = (module for name, module in model.named_modules() if name.endswith("position_embeddings"))
    padding = next((table.padding_idx for table in tables if getattr(table, "padding_idx", None) is not None), None)
    return positions if padding is None else positions - padding - 1


def text_mask(model: nn.Module, attention_mask: Tensor | None) -> Tensor | None:
    """
    Return the mask that the text tower of a dual encoder needs.

    CLIP's needs none: it only looks back, and it pools at the end of the text. Padding behind it changes nothing.
    With a mask, transformers would wait for the device to know whether anything is masked.

    Args:
        model (`nn.Module`): A dual encoder.
        attention_mask (`Tensor` of shape `(batch, length)`, *optional*): 1 on tokens, 0 on padding.
    """
    return None if type(_text_config(model)) is CLIPTextConfig else attention_mask


def fit_processor(processor: Any, model: nn.Module) -> Any:
    """
    Return a processor whose tokenizer treats texts as the model's text tower was trained.

    The tower's number of tokens becomes the tokenizer's `model_max_length`. A SigLIP's tokenizer writes lower case and
    no mask. Both are saved with the tokenizer, and each correction is logged.

    Args:
        processor: Has a `tokenizer`; not changed. One that names its own `context_length` is fitted already.
        model (`nn.Module`): A dual encoder.

    Returns:
        The same processor if nothing is to be done, otherwise a copy.

    Raises:
        ValueError: The model needs lower case, and the tokenizer has no such setting.
    """
    tokenizer = getattr(processor, "tokenizer", None)
    if getattr(processor, "context_length", None) or not isinstance(tokenizer, PreTrainedTokenizerBase):
        return processor
    if not (wrong := _differences(tokenizer, model)):
        return processor
    logger.warning(
        "The tokenizer %s is fitted to the text tower of %s: %s.",
        type(tokenizer).__name__,
        type(model).__name__,
        ", ".join(wrong),
    )
    fitted = copy.copy(processor)
    fitted.tokenizer = _fitted(copy.deepcopy(tokenizer), model)
    return fitted


def check_fits(model: nn.Module, *owners: Any) -> None:
    """
    Refuse tokenizers that [`fit_processor`] would change.

    Args:
        model (`nn.Module`): The dual encoder that reads their ids.
        owners: Processors and collators. Those without a `tokenizer` of transformers are not checked.

    Raises:
        ValueError: A tokenizer cuts or writes texts otherwise than the text tower needs.
    """
    for owner in owners:
        tokenizer = getattr(owner, "tokenizer", None)
        if isinstance(tokenizer, PreTrainedTokenizerBase) and (wrong := _differences(tokenizer, model)):
            raise ValueError(
                f"The tokenizer of the {type(owner).__name__} does not fit the text tower of this "
                f"{type(model).__name__}. It needs {' and '.join(wrong)}, as the evaluation will do. Take the "
                "processor that `load_clip` returns, or correct yours first: `processor = "
                "hf_clip_kd.models.fit_processor(processor, model)`."
            )


def _text_config(model: nn.Module) -> Any:
    return getattr(getattr(model, "config", None), "text_config", None)


def _is_lower_case(model: nn.Module) -> bool:
    return getattr(_text_config(model), "model_type", None) in LOWER_CASE


def _differences(tokenizer: PreTrainedTokenizerBase, model: nn.Module) -> list[str]:
    found, length, own = [], context_length(model), tokenizer.model_max_length
    if length not in (None, own):
        found.append(f"{length} tokens at most ({f'not {own}' if own < UNKNOWN_LENGTH else 'it knew no number'})")
    if _is_lower_case(model):
        if _keeps_capitals(tokenizer):
            found.append("lower case")
        if "attention_mask" in tokenizer.model_input_names:
            found.append("padding to the full length without a mask")
    return found


def _keeps_capitals(tokenizer: PreTrainedTokenizerBase) -> bool:
    if not tokenizer.is_fast:
        return not getattr(tokenizer, "do_lower_case", False)
    normalizer = tokenizer.backend_tokenizer.normalizer
    written = CAPITALS if normalizer is None else normalizer.normalize_str(CAPITALS)
    return any(character.isupper() for character in written)


def _fitted(tokenizer: PreTrainedTokenizerBase, model: nn.Module) -> PreTrainedTokenizerBase:
    """Change a tokenizer in place, or return another with the same tokens."""
    tokenizer.model_max_length = context_length(model) or tokenizer.model_max_length
    if not _is_lower_case(model):
        return tokenizer
    if _keeps_capitals(tokenizer):
        tokenizer = _with_lower_case(tokenizer)
    names = [name for name in tokenizer.model_input_names if name != "attention_mask"]
    # Only what stands in `init_kwargs` is saved.
    tokenizer.model_input_names = tokenizer.init_kwargs["model_input_names"] = names
    return tokenizer


def _with_lower_case(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    if not tokenizer.is_fast:
        if not hasattr(tokenizer, "do_lower_case"):
            raise ValueError(
                f"The tokenizer {type(tokenizer).__name__} keeps capitals, and this SigLIP was trained on lower case. "
                "Allowed are fast tokenizers and those with `do_lower_case`. Pass the tokenizer of the "
                "checkpoint: `AutoTokenizer.from_pretrained('...')`."
            )
        tokenizer.do_lower_case = tokenizer.init_kwargs["do_lower_case"] = True
        return tokenizer
    backend = tokenizer.backend_tokenizer
    old = [] if backend.normalizer is None else [backend.normalizer]
    backend.normalizer = Normalizers([Lowercase(), *old])
    # A Gemma tokenizer builds its own normalizer whenever it is loaded. This class loads the one that was saved.
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=tokenizer.model_max_length,
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
        extra_special_tokens=tokenizer.extra_special_tokens,
        **tokenizer.special_tokens_map,
    )


__all__ = ["check_fits", "context_length", "fit_processor", "text_mask"]
