"""Greedy answers of a vision-language model in batches, independent of the batch size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from accelerate.utils import gather_object
from tqdm.auto import tqdm
from transformers import GenerationConfig

from ...models.eval_mode import eval_mode
from ...recipe_io.processes import process_state
from .benchmarks.base import MAX_NEW_TOKENS
from .files import Sample
from .inputs import by_length, check_prompts, model_inputs


def generate_answers(
    model,
    processor,
    samples: Sequence[Sample],
    *,
    batch_size: int = 8,
    max_new_tokens: int = MAX_NEW_TOKENS,
    shared: bool = True,
    description: str = "answers",
) -> list[str]:
    """
    Generate a model's answer to each sample.

    Decoding is plain greedy, without sampling or repetition penalty. The model's generation config only gives the ids
    of its special tokens. Prompts are padded on the left. Answers depend on `batch_size` only by rounding. In float32
    that changes nothing; in half precision it may swap two equally likely words.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model with `generate`. It runs in eval mode, and its modules get their modes back.
        processor ([`~transformers.ProcessorMixin`]):
            Processor with a chat template. The message is the image, if there is one, and then the prompt.
        samples (sequence of [`Sample`]):
            Questions, with and without an image. Images are files, or pictures in memory.
        batch_size (`int`, *optional*, defaults to 8):
            Questions per call of `generate`.
        max_new_tokens (`int`, *optional*, defaults to 128):
            Longest answer in tokens. A batch ends earlier when all of its answers have ended.
        shared (`bool`, *optional*, defaults to `True`):
            Share the samples among the processes; each passes the same samples and gets all answers. `False` is for a
            caller that has shared them itself: each process answers all of its own, whatever the others have.
        description (`str`, *optional*, defaults to `"answers"`):
            Label of the progress bar.

    Returns:
        `list[str]`: one answer per sample in their order, stripped.

    Raises:
        ValueError: if an image cannot be read, or a prompt holds the image token or half a character.
    """
    check_prompts(processor, samples)
    order = by_length(samples)
    config = _greedy(model, processor.tokenizer, max_new_tokens)
    state = process_state()
    mine = order[state.process_index :: state.num_processes] if shared else order
    found = []
    with eval_mode(model), torch.no_grad():
        for start in tqdm(range(0, len(mine), batch_size), desc=description, leave=False):
            batch = mine[start : start + batch_size]
            found += zip(batch, _answer(model, processor, [samples[i] for i in batch], config), strict=True)
    answers = [""] * len(samples)
    for position, text in gather_object(found) if shared else found:
        answers[position] = text
    return answers


def _answer(model, processor, samples: list[Sample], config: GenerationConfig) -> list[str]:
    inputs = model_inputs(processor, samples).to(model.device, dtype=model.dtype)
    generated = model.generate(**inputs, generation_config=config)
    texts = processor.batch_decode(generated[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return [text.strip() for text in texts]


def end_tokens(model, tokenizer) -> set[int]:
    """Return the ids that end an answer: those of the model's generation config, and the tokenizer's EOS."""
    own = model.generation_config.eos_token_id
    return {*(own if isinstance(own, list) else [own]), tokenizer.eos_token_id} - {None}


def _greedy(model, tokenizer, max_new_tokens: int) -> GenerationConfig:
    # Set every field, since the model's own config fills in the others.
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        temperature=1.0,
        top_k=50,
        top_p=1.0,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        use_cache=True,  # Training with checkpointing switches it off.
        eos_token_id=sorted(end_tokens(model, tokenizer)) or None,
        pad_token_id=tokenizer.pad_token_id,
    )
