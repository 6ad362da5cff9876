"""Texts of readers: the ids and labels of the trainings that the readers come from."""

import pickle

import pytest
import torch
from chat_tokenizers import chat_tokenizer
from transformers import CLIPImageProcessorPil, LlavaProcessor

from hf_clip_kd.models.tokenizer import clip_tokenizer
from hf_clip_kd.teachers.reader.texts import LONGEST, CaptionerTexts, LlavaTexts
from hf_clip_kd.vlm import LlavaDataCollator, get_chat_template

TOKENS = 16  # An image has 32 pixels in patches of 8.
FAMILIES = {"qwen3": "qwen", "vicuna": "vicuna", "gemma": "gemma", "short": "qwen"}


def llava_processor(template):
    square = {"height": 32, "width": 32}
    return LlavaProcessor(
        CLIPImageProcessorPil(size=square, crop_size=square, do_center_crop=False),
        chat_tokenizer(FAMILIES[template]),
        patch_size=8,
        vision_feature_select_strategy="full",
        chat_template=get_chat_template(template).jinja,
    )


def conversation(question, answer):
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    blank = {"bytes": None, "path": "1"}
    return {"id": "1", "messages": turns, "images": [blank]}


@pytest.mark.parametrize("template", FAMILIES)
def test_ids_and_labels_are_those_of_vlm_training(template):
    processor = llava_processor(template)
    texts = LlavaTexts(processor, TOKENS)
    for kind, exchange in {"chat": ("What is it?", "red"), "plain": (None, "a red circle")}.items():
        collator = LlavaDataCollator(processor, template=kind, tower_features=lambda image: torch.zeros(1, 17, 4))
        question = "<image>" if exchange[0] is None else f"<image>\n{exchange[0]}"
        expected = collator([conversation(question, exchange[1])])
        found = texts([exchange])
        assert torch.equal(found["input_ids"], expected["input_ids"][:, :-1]), kind
        assert torch.equal(found["labels"], expected["labels"][:, 1:]), kind
        assert (found["labels"] >= 0).sum() >= 1


def test_a_batch_is_padded_and_cut():
    texts = LlavaTexts(llava_processor("qwen3"), TOKENS)
    found = texts([(None, "red"), (None, "word " * 400), ("What?", "two")])
    assert found["input_ids"].shape == found["labels"].shape == found["attention_mask"].shape
    lengths = found["attention_mask"].sum(dim=1)
    assert lengths[1] == TOKENS + LONGEST - 1 == found["input_ids"].shape[1]
    assert (found["labels"][0, lengths[0] :] == -100).all()
    again = pickle.loads(pickle.dumps(texts))([("What?", "two")])
    assert torch.equal(again["input_ids"][0], found["input_ids"][2, : lengths[2]])


def test_a_caption_decoder_reads_begin_text_and_predicts_its_end():
    tokenizer = clip_tokenizer(600)
    texts = CaptionerTexts(tokenizer, 20)
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    words = tokenizer("a red hat", add_special_tokens=False)["input_ids"]
    asked = tokenizer("what?", add_special_tokens=False)["input_ids"]
    (caption, answer) = texts([(None, "a red hat"), ("what?", "a red hat")])["labels"]
    assert caption[caption >= 0].tolist() == answer[answer >= 0].tolist() == [*words, end]
    found = texts([("what?", "a red hat")])
    assert found["input_ids"].tolist() == [[begin, *asked, *words]]
    assert found["labels"].tolist() == [[-100] * len(asked) + [*words, end]]
    assert texts([(None, "hat " * 50)])["input_ids"].shape == (1, 20)
