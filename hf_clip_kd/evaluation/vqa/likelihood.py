"""Likelihood of accepted answers, in bits: how surprised a vision-language model is by the right answer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from accelerate.utils import gather_object
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm

from ...data.texts import half_character
from ...models.eval_mode import eval_mode
from ...recipe_io.processes import process_state
from .files import Sample
from .generation import end_tokens
from .inputs import by_length, check_prompts, model_inputs

_ANSWERS = ("best", "most_frequent", "first")
_LENGTHS = ("sum", "per_token")


@dataclass(frozen=True)
class Likelihood:
    """
    Way to measure the likelihood of answers.

    Attributes:
        answers (`str`, *optional*, defaults to `"best"`):
            Answer that counts if several are accepted: `"best"` is the likeliest of them, `"most_frequent"` that of
            most people (of two, the earlier), `"first"` the first in the file.
        length (`str`, *optional*, defaults to `"sum"`):
            `"sum"` is the bits of the whole answer, `"per_token"` divides them by its tokens, the end among them.

    Raises:
        ValueError: A value is unknown.
    """

    answers: str = "best"
    length: str = "sum"

    def __post_init__(self):
        for name, value, allowed in (("answers", self.answers, _ANSWERS), ("length", self.length, _LENGTHS)):
            if value not in allowed:
                raise ValueError(
                    f"`likelihood: {{{name}: {value!r}}}` does not exist. There are {', '.join(allowed)}. Write "
                    f"`likelihood: {{{name}: {allowed[0]}}}`."
                )

    def choose(self, answers: Sequence[str], any_case: bool) -> list[str]:
        """
        Return the spellings whose likelihood is asked; none if no answer has text.

        With `any_case`, an answer also counts with its first letter in the other case: `Yes` and `yes`.
        """
        texts = [text.strip() for text in answers if text.strip() and not half_character(text)]
        if self.answers != "best" and texts:
            texts = [Counter(texts).most_common(1)[0][0] if self.answers == "most_frequent" else texts[0]]
        if any_case:
            texts = [form for text in texts for form in (text, text[0].swapcase() + text[1:])]
        return list(dict.fromkeys(texts))


def answer_bits(
    model,
    processor,
    samples: Sequence[Sample],
    *,
    likelihood: Likelihood | None = None,
    any_case: bool = False,
    batch_size: int = 8,
    padding_side: str = "left",
    description: str = "likelihood",
) -> list[float | None]:
    """
    Measure `-log2 p(answer, end | image, prompt)` of each sample's accepted answer. Processes share the samples.

    A pair of question and answer is one row of a batch and one forward pass, with the answer given (teacher forcing).
    The prompt's tokens are those of [`generate_answers`], and the answer's tokens are put behind them. Tokens of the
    joined text might merge across the border. That would be the likelihood after another prompt than generation's.

    The end is the token that the chat template puts behind an answer, and at which generation stops. It counts, so
    `2 ** -bits` is the probability that sampling gives exactly this answer. Without it, "1" would get the probability
    of "12", too. The probabilities of all answers would not sum to 1.

    The value does not depend on `batch_size` or `padding_side`, but for rounding. Only logits at the answers are made.

    Args:
        model, processor:
            As [`generate_answers`] takes them. The model's `forward` takes `logits_to_keep`.
        samples (sequence of [`Sample`]):
            Questions with their accepted answers.
        likelihood ([`Likelihood`], *optional*):
            Choice among the accepted answers, and length normalisation. The default is `Likelihood()`.
        any_case (`bool`, *optional*, defaults to `False`):
            Take the likelier of `yes` and `Yes`, for benchmarks that score both alike.
        batch_size (`int`, *optional*, defaults to 8):
            Pairs of question and answer per forward pass.
        padding_side (`str`, *optional*, defaults to `"left"`):
            Side of the padding.
        description (`str`, *optional*, defaults to `"likelihood"`):
            Label of the progress bar.

    Returns:
        `list[float | None]`: bits, 0 or more, of each sample in their order. `None` if no answer of it is known.

    Raises:
        ValueError: if an image cannot be read, or a prompt holds the image token or half a character.
    """
    likelihood = likelihood or Likelihood()
    check_prompts(processor, samples)
    ends = end_tokens(model, processor.tokenizer)
    forms = [likelihood.choose(sample.answers, any_case) for sample in samples]
    ids = {text: _answer_ids(processor, text, ends) for text in dict.fromkeys(sum(forms, []))}
    state = process_state()
    mine = by_length(samples)[state.process_index :: state.num_processes]
    pairs = [(i, ids[text]) for i in mine for text in forms[i]]
    best: dict[int, float] = {}
    with eval_mode(model), torch.no_grad():
        for start in tqdm(range(0, len(pairs), batch_size), desc=description, leave=False):
            batch = pairs[start : start + batch_size]
            rows = _batch_bits(model, processor, [(samples[i], tokens) for i, tokens in batch], padding_side)
            for (i, tokens), bits in zip(batch, rows, strict=True):
                bits /= len(tokens) if likelihood.length == "per_token" else 1
                best[i] = min(bits, best.get(i, math.inf))
    found: list[float | None] = [None] * len(samples)
    for position, bits in gather_object(list(best.items())):
        found[position] = bits
    return found


def _answer_ids(processor, answer: str, ends: set[int]) -> list[int]:
    """
    Return the tokens of an answer as the chat template writes it, with its end.

    They are what training supervises. A template may put a space in front of an answer. A tokenizer may cut a word
    behind a prompt otherwise than the word alone. If the template writes no end, EOS follows the last word. White
    space that the template puts behind it only parts the turns.
    """
    asked = [{"role": "user", "content": [{"type": "text", "text": "?"}]}]
    answered = [*asked, {"role": "assistant", "content": [{"type": "text", "text": answer}]}]
    prompt = processor.apply_chat_template(asked, add_generation_prompt=True)
    whole = processor.apply_chat_template(answered)
    # Some templates put more into an open turn than into a finished one. The bare answer then follows the prompt.
    tail = whole.removeprefix(prompt) if whole.startswith(prompt) else answer

    def tokens(text: str) -> list[int]:
        return processor.tokenizer(text, add_special_tokens=False)["input_ids"]

    def behind_prompt(text: str) -> list[int]:
        before, both = tokens(prompt), tokens(prompt + text)
        return both[len(before) :] if both[: len(before)] == before else tokens(text)

    found = behind_prompt(tail)
    stop = next((i for i, token in enumerate(found) if token in ends), None)
    if stop is not None:
        return found[: stop + 1]
    found, end = behind_prompt(tail.rstrip()), processor.tokenizer.eos_token_id
    return found if end is None else [*found, end]


def _batch_bits(model, processor, pairs: list[tuple[Sample, list[int]]], padding_side: str) -> list[float]:
    """Return the bits of each answer (token ids) after its question, in one forward pass."""
    inputs = dict(model_inputs(processor, [sample for sample, _ in pairs]))
    prompts, asked = inputs["input_ids"], inputs["attention_mask"].bool()
    answers = [torch.tensor(ids) for _, ids in pairs]

    def joined(values: torch.Tensor, tails: list[torch.Tensor], padding: int) -> torch.Tensor:
        rows = [torch.cat([row[here], tail]) for row, here, tail in zip(values, asked, tails, strict=True)]
        return pad_sequence(rows, batch_first=True, padding_value=padding, padding_side=padding_side)

    ones, zeros = ([torch.full_like(ids, value) for ids in answers] for value in (1, 0))
    targets = joined(torch.zeros_like(prompts), ones, 0).bool()
    # Other inputs by token mark images, such as `token_type_ids`; an answer has none.
    for name, values in inputs.items():
        if values.shape == prompts.shape and name not in ("input_ids", "attention_mask"):
            inputs[name] = joined(values, zeros, 0)
    inputs["input_ids"] = joined(prompts, answers, processor.tokenizer.pad_token_id)
    inputs["attention_mask"] = joined(asked.long(), ones, 0)
    inputs = {
        name: values.to(model.device, model.dtype if values.is_floating_point() else None)
        for name, values in inputs.items()
    }
    # The positions of generation, whose rule is the model's own: padding must not move a token.
    inputs["position_ids"] = model._prepare_position_ids_for_generation(inputs["input_ids"], inputs)
    # The logits of a token stand at the place before it. With padding on the left, all these places are the last.
    before = targets.roll(-1, dims=1)
    places = before.any(dim=0).nonzero()[:, 0]
    logits = model(**inputs, logits_to_keep=places.to(model.device), use_cache=False).logits.float()
    logits = logits[before[:, places].to(logits.device)]
    nats = cross_entropy(logits, torch.cat(answers).to(logits.device), reduction="none").double().cpu()
    return [float(part.sum()) / math.log(2) for part in nats.split([len(ids) for ids in answers])]
