"""The answer of which VQA measures the likelihood has the tokens that VLM training supervises."""

import math
from types import SimpleNamespace

import pytest
import torch
from chat_tokenizers import chat_tokenizer
from transformers import CLIPImageProcessorPil, GenerationConfig, LlavaProcessor

from hf_clip_kd.evaluation.vqa import Sample, answer_bits
from hf_clip_kd.vlm.chat_templates import get_chat_template, list_chat_templates
from hf_clip_kd.vlm.collator import LlavaDataCollator

FAMILIES = {
    "gemma": "gemma", "llama3": "llama3", "phi3": "phi3", "qwen2": "qwen", "qwen2.5": "qwen", "qwen3": "qwen",
    "short": "qwen", "smollm2": "smollm2", "vicuna": "vicuna",
}  # fmt: skip


class Fair(torch.nn.Module):
    """Gives every token the same probability, and notes what it is shown."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, tokenizer, end):
        super().__init__()
        self.size, self.seen = len(tokenizer), []
        self.generation_config = GenerationConfig(eos_token_id=end and tokenizer.convert_tokens_to_ids(end))

    def _prepare_position_ids_for_generation(self, ids, inputs):
        return None

    def forward(self, input_ids, logits_to_keep, **kwargs):
        self.seen += input_ids.tolist()
        return SimpleNamespace(logits=torch.zeros(len(input_ids), len(logits_to_keep), self.size))


def test_every_template_is_here():
    assert set(FAMILIES) == {*list_chat_templates()} - {"plain"}, "plain has no questions"


@pytest.mark.parametrize("answer", ["red", "two words"])
@pytest.mark.parametrize("template", FAMILIES)
def test_likelihood_is_of_the_tokens_that_training_supervises(template, answer):
    tokenizer, chat = chat_tokenizer(FAMILIES[template]), get_chat_template(template)
    square = {"height": 32, "width": 32}
    processor = LlavaProcessor(
        CLIPImageProcessorPil(size=square, crop_size=square),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="full",
        chat_template=chat.jinja,
    )
    turns = [{"role": "user", "content": "What shape?"}, {"role": "assistant", "content": answer}]
    batch = LlavaDataCollator(processor)([{"id": "1", "messages": turns, "images": []}])
    ids, supervised = batch["input_ids"][0], batch["labels"][0] != -100
    model = Fair(tokenizer, chat.end_of_turn)
    (bits,) = answer_bits(model, processor, [Sample("1", None, "What shape?", (answer,))])
    last = int(supervised.nonzero().max())
    assert model.seen == [ids[: last + 1].tolist()]
    assert bits == pytest.approx(int(supervised.sum()) * math.log2(model.size))
