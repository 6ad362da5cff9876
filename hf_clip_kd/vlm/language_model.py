"""Causal language model of a LLaVA: loading, room for `<image>`, and a head for the stock class."""

import copy
import os

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.tokenization_utils_base import AddedToken

from ..models.completeness import REPORTED, SAVE_RULE, check_complete
from ..models.loader_faults import loader_faults, reason_of
from .gguf import is_gguf, load_gguf

IMAGE_TOKEN = "<image>"
PAD_TOKEN = "<|llava_pad|>"


def load_language_model(
    language_model: str | os.PathLike | PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    dtype: torch.dtype,
    trust_remote_code: bool,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return a causal language model in `dtype` and its tokenizer; objects are copied, so both may be changed."""
    if isinstance(language_model, PreTrainedModel):
        if tokenizer is None:
            raise ValueError(
                f"language_model is a {type(language_model).__name__} and tokenizer is None. A model has no tokenizer "
                "in it. Pass both: build_llava(tower, model, tokenizer=tokenizer)."
            )
        if getattr(language_model, "is_quantized", False):  # It was loaded for this, and its types must stay.
            return language_model.eval(), copy.deepcopy(tokenizer)
        return copy.deepcopy(language_model).to(dtype).eval(), copy.deepcopy(tokenizer)
    name = os.fspath(language_model)
    if is_gguf(name):
        model, own = load_gguf(name, dtype)
        return model, copy.deepcopy(tokenizer) if tokenizer else own

    def message(error: Exception) -> str:
        return (
            f"language_model={name!r} cannot be loaded ({reason_of(error)}). Allowed are a folder or Hub id of a "
            "causal language model of transformers with its tokenizer, FOLDER//FILE.gguf, or such a model with "
            "tokenizer=.... Check the name and the network."
        )

    with loader_faults(message):
        model, report = AutoModelForCausalLM.from_pretrained(
            name, dtype=dtype, trust_remote_code=trust_remote_code, **REPORTED
        )
        tokenizer = tokenizer or AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)
    check_complete(report, f"language_model={name!r}", model, SAVE_RULE)
    return model, copy.deepcopy(tokenizer)


def add_special_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, end_of_turn: str | None) -> int:
    """
    Add `<image>` and a padding token to the tokenizer, and enough embeddings to the model.

    The padding token never ends an answer: a mask of padding would remove the end from the labels. The model grows
    only if it has no spare rows, and mostly it has.

    Returns:
        `int`: Id of `<image>`.

    Raises:
        ValueError: The model knows no token that ends an answer.
    """
    check_end(model, tokenizer, end_of_turn)
    image_token = AddedToken(IMAGE_TOKEN, normalized=False, special=True)
    tokenizer.add_special_tokens({"extra_special_tokens": [image_token]}, replace_extra_special_tokens=False)
    ends = (tokenizer.eos_token, end_of_turn)
    if tokenizer.pad_token is None or tokenizer.pad_token in ends:
        usable = tokenizer.unk_token is not None and tokenizer.unk_token not in (*ends, tokenizer.bos_token)
        tokenizer.add_special_tokens({"pad_token": tokenizer.unk_token if usable else PAD_TOKEN})
    needed = max(tokenizer.get_vocab().values()) + 1
    if needed > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(needed)
    return tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)


def check_end(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, end_of_turn: str | None) -> None:
    """Refuse a model that could never end an answer: its end is the template's token, or else the EOS."""
    if end_of_turn is not None and end_of_turn not in tokenizer.get_vocab():
        raise ValueError(
            f"The chat template ends its turns with {end_of_turn!r}, which is no token of this tokenizer. Allowed are "
            "templates of the language model's own family, and 'vicuna', which ends them with the EOS. Call "
            "build_llava(..., chat_template='vicuna')."
        )
    end = end_of_turn or tokenizer.eos_token
    number = None if end is None else tokenizer.get_vocab().get(end)
    rows = model.get_input_embeddings().weight.shape[0]
    if number is None or number >= rows:
        reason = "The tokenizer has no `eos_token` to end an answer"
        if end is not None:
            reason = f"The token {end!r} that ends an answer has the id {number}"
        raise ValueError(
            f"{reason}, and {type(model).__name__} has embeddings of the ids 0 to {rows - 1}. It must be a token that "
            "the language model knows, or no answer ever ends. Set `tokenizer.eos_token` to such a token of its "
            "vocabulary, and pass build_llava(..., tokenizer=tokenizer)."
        )


def stock_head(model: PreTrainedModel) -> tuple[nn.Linear, bool]:
    """
    Return the output head for [`~transformers.LlavaForConditionalGeneration`], and `True` if it stays tied.

    The stock class can tie only to `embed_tokens`; a model that ties under another name gets a copy.

    Raises:
        ValueError: The head is more than one matrix.
    """
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    if not isinstance(head, nn.Linear) or head.bias is not None:
        kind = "with a bias" if isinstance(head, nn.Linear) else f"of type {type(head).__name__}"
        raise no_stock_head(model, f"its head is one {kind}")
    if head.weight is not embeddings.weight:
        return head, False
    if getattr(model.base_model, "embed_tokens", None) is embeddings:
        return head, True
    own = nn.Linear(head.in_features, head.out_features, bias=False, device="meta")
    own.weight = nn.Parameter(head.weight.detach().clone())
    return own, False


def no_stock_head(model: PreTrainedModel, reason: str) -> ValueError:
    return ValueError(
        f"{type(model).__name__} would compute other logits inside a LLaVA ({reason}): the stock class has a plain "
        "linear head without bias, scale or soft-capping. Allowed are models such as Qwen2, Qwen3, Llama, Mistral, "
        "SmolLM2, Phi-3 and Gemma 1. Give one of these as language_model."
    )


@torch.no_grad()
def probe_logits(model: PreTrainedModel) -> torch.Tensor:
    """Return the logits of some tokens from all over the vocabulary, without an image."""
    rows = model.get_input_embeddings().weight.shape[0]
    ids = torch.linspace(0, rows - 1, min(rows, 16), device=model.device).long()
    # bitsandbytes may repack 4-bit weights for inference in eval mode; they then let no gradient through.
    model.train(any(type(module).__name__ == "Linear4bit" for module in model.modules()))
    try:
        return model(input_ids=ids[None], use_cache=False).logits
    finally:
        model.eval()


__all__ = ["IMAGE_TOKEN", "add_special_tokens", "load_language_model", "no_stock_head", "probe_logits", "stock_head"]
