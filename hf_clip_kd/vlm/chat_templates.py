"""Chat templates whose assistant spans are marked, one file for each family of language models."""

from __future__ import annotations

import logging
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

_FOLDER = Path(__file__).parent / "templates"
_INCLUDE = re.compile(r"{% include '(\w+\.jinja)' %}\n")

_END_OF_TURN = {
    "gemma": "<end_of_turn>",
    "llama3": "<|eot_id|>",
    "phi3": "<|end|>",
    "plain": None,
    "qwen2": "<|im_end|>",
    "qwen2.5": "<|im_end|>",
    "qwen3": "<|im_end|>",
    "short": None,
    "smollm2": "<|im_end|>",
    "vicuna": None,
}

# Tokens that show the family of a tokenizer. Many share ChatML's; there the model's type decides.
_TOKENS = {
    "gemma": ("<start_of_turn>", "<end_of_turn>"),
    "llama3": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "phi3": ("<|user|>", "<|assistant|>", "<|end|>"),
    "chatml": ("<|im_start|>", "<|im_end|>"),
}
_CHATML = {"llama": "smollm2", "qwen2": "qwen2", "qwen3": "qwen3"}


@dataclass(frozen=True)
class ChatTemplate:
    """Form of a conversation for one family of language models.

    Args:
        name (`str`): Name in [`list_chat_templates`].
        jinja (`str`):
            Template for `tokenizer.chat_template` and `processor.chat_template`. Content is a string or a list of
            parts. Answers and the token that ends them stand in `{% generation %}`, from which labels are made.
        end_of_turn (`str`, *optional*):
            The token that ends an answer and stops generation. `None` is the tokenizer's EOS (`"vicuna"`, `"short"`)
            or no token at all (`"plain"`).
    """

    name: str
    jinja: str
    end_of_turn: str | None


def list_chat_templates() -> list[str]:
    """Return the names for [`get_chat_template`]."""
    return sorted(_END_OF_TURN)


@cache
def get_chat_template(name: str) -> ChatTemplate:
    """Return a chat template by its name.

    Each writes the text of its model's own template: Qwen3's with thinking off, Llama 3's without the date of 3.1. It
    can be saved with a processor, as shared pieces are put in. `"vicuna"` has the words of LLaVA-1.5; it needs no
    token of its own and so serves any language model. `"plain"` is for captions, LLaVA's first stage. `"short"` has no
    words at all, for language models made for one task.

    Args:
        name (`str`): One of [`list_chat_templates`].

    Raises:
        ValueError: There is no such template.
    """
    if name not in _END_OF_TURN:
        raise ValueError(
            f"There is no chat template {name!r}. It must be one of {', '.join(map(repr, list_chat_templates()))}. "
            "Pass for example `chat_template='vicuna'`, which serves any language model."
        )
    return ChatTemplate(name, _read(f"{name}.jinja"), _END_OF_TURN[name])


def default_chat_template(config: Any, tokenizer: Any) -> str:
    """Return the template of a language model: the one that writes the same text, else the one of its tokens.

    Args:
        config (`PreTrainedConfig`): Configuration of the language model.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.

    Returns:
        `str`: A name for [`get_chat_template`]. A Llama without chat tokens gets `"vicuna"`, as in LLaVA.

    Raises:
        ValueError: The family is not known.
    """
    own = _question(tokenizer, tokenizer.chat_template) if tokenizer.chat_template else None
    for name in list_chat_templates():
        if own is not None and own == _question(tokenizer, get_chat_template(name).jinja):
            return name
    vocabulary = tokenizer.get_vocab()
    family = next((family for family, tokens in _TOKENS.items() if all(t in vocabulary for t in tokens)), None)
    name = _CHATML.get(config.model_type) if family == "chatml" else family
    if name is None and own is None and config.model_type == "llama":
        name = "vicuna"
    if name is None:
        raise ValueError(
            f"No chat template is known for a language model of type {config.model_type!r} with this tokenizer. There "
            f"are {', '.join(map(repr, list_chat_templates()))}. Name one: `chat_template='vicuna'` serves any model."
        )
    if own is not None:
        logger.warning("The tokenizer's own chat template is replaced by %r, which writes another text.", name)
    return name


def check_prompt(template: ChatTemplate, tokenizer: Any) -> None:
    """
    Refuse a template that lacks a token, mostly the BOS, which the tokenizer puts in front of a text.

    Training takes a conversation as the template writes it. A processor that asks adds the tokenizer's own tokens,
    unless the text begins with the BOS. Both must give the same prompt.

    Raises:
        ValueError: They differ.
    """
    text = _question(tokenizer, template.jinja)
    if tokenizer.bos_token is not None and text.startswith(tokenizer.bos_token):
        return
    trained, asked = (Counter(tokenizer(text, add_special_tokens=adds)["input_ids"]) for adds in (False, True))
    added = tokenizer.convert_ids_to_tokens(list(asked - trained))
    if added:
        raise ValueError(
            f"`chat_template={template.name!r}` writes no {added[0]!r}, and this tokenizer adds it to each question. "
            "Training sees the template's text alone, so both must have it or none. Name a template that writes it, "
            "such as `chat_template='vicuna'`, or pass a tokenizer with `tokenizer.add_bos_token = False`."
        )


def _question(tokenizer: Any, jinja: str) -> str | None:
    """Return a question as a template writes it, or `None` if it refuses (some want other roles, tools, a date)."""
    try:
        return tokenizer.apply_chat_template(
            [{"role": "user", "content": "What is it?"}],
            chat_template=jinja,
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
        )
    except Exception:  # A template is a program of others, and may raise errors of any type.
        return None


def _read(file: str) -> str:
    text = (_FOLDER / file).read_text(encoding="utf-8")
    return _INCLUDE.sub(lambda include: _read(include[1]), text)
