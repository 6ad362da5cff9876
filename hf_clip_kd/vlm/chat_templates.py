"""Chat templates whose assistant spans are marked, one file for each family of language models."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

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

# The tokens by which a tokenizer shows its family. ChatML's are shared by many; there the model's type decides.
_TOKENS = {
    "gemma": ("<start_of_turn>", "<end_of_turn>"),
    "llama3": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "phi3": ("<|user|>", "<|assistant|>", "<|end|>"),
    "chatml": ("<|im_start|>", "<|im_end|>"),
}
_CHATML = {"llama": "smollm2", "qwen2": "qwen2", "qwen3": "qwen3"}


@dataclass(frozen=True)
class ChatTemplate:
    """How a conversation is written for one family of language models.

    Args:
        name (`str`): Its name, as [`list_chat_templates`] gives it.
        jinja (`str`):
            For `tokenizer.chat_template` and `processor.chat_template`. Content is a string or a list of parts.
            Answers and the token that ends them stand in `{% generation %}`, which is where labels come from.
        end_of_turn (`str`, *optional*):
            The token that ends an answer, at which generation has to stop. `None`: the tokenizer's EOS (`"vicuna"`,
            `"short"`), or no token at all (`"plain"`).
    """

    name: str
    jinja: str
    end_of_turn: str | None


def list_chat_templates() -> list[str]:
    """Names for [`get_chat_template`]."""
    return sorted(_END_OF_TURN)


@cache
def get_chat_template(name: str) -> ChatTemplate:
    """A chat template by its name.

    Each writes the text of its model's own template (Qwen3's with thinking off, Llama 3's without the date that 3.1
    added), and can be saved with a processor as it is: shared pieces are put in. `"vicuna"` needs no token of its own
    and so serves any language model; it has the words of LLaVA-1.5. `"plain"` is for captions, LLaVA's first stage,
    and `"short"` has no words at all, for language models made for one task.

    Args:
        name (`str`): One of [`list_chat_templates`].

    Raises:
        ValueError: if there is no such template.
    """
    if name not in _END_OF_TURN:
        raise ValueError(
            f"There is no chat template {name!r}. It must be one of {', '.join(map(repr, list_chat_templates()))}. "
            "Pass for example `chat_template='vicuna'`, which serves any language model."
        )
    return ChatTemplate(name, _read(f"{name}.jinja"), _END_OF_TURN[name])


def default_chat_template(config: Any, tokenizer: Any) -> str:
    """The template that fits a language model: the one that writes what its own does, else the one of its tokens.

    Args:
        config (`PreTrainedConfig`): Of the language model.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.

    Returns:
        `str`: a name for [`get_chat_template`]. `"vicuna"` for a Llama without chat tokens, as LLaVA does.

    Raises:
        ValueError: if the family is not known.
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


def _question(tokenizer: Any, jinja: str) -> str | None:
    """One question as a template writes it, or `None` where it cannot (some want other roles, tools, a date)."""
    try:
        return tokenizer.apply_chat_template(
            [{"role": "user", "content": "What is it?"}],
            chat_template=jinja,
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
        )
    except TemplateError:
        return None


def _read(file: str) -> str:
    text = (_FOLDER / file).read_text(encoding="utf-8")
    return _INCLUDE.sub(lambda include: _read(include[1]), text)
