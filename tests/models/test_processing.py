"""Processors that are fitted to the text tower of their model."""

import json
import logging
from types import SimpleNamespace

import pytest
from teacher_models import tiny_clip, tiny_siglip, tiny_siglip2, word_tokenizer
from text_families import altclip, byte_tokenizer, clip, gemma_tokenizer, save_family, siglip
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    CLIPVisionConfig,
    PreTrainedTokenizer,
    RobertaConfig,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
)

from hf_clip_kd.models import context_length, fit_processor, load_clip
from hf_clip_kd.models.processing import check_fits

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}


def with_text_tower(config):
    vision = CLIPVisionConfig(**SMALL, image_size=32, patch_size=8)
    return VisionTextDualEncoderModel(VisionTextDualEncoderConfig.from_vision_text_configs(vision, config))


def test_positions_that_a_token_can_have():
    assert context_length(clip(positions=248)) == 248
    assert context_length(siglip()) == context_length(altclip()) == 24
    assert context_length(with_text_tower(BertConfig(**SMALL, vocab_size=60, max_position_embeddings=40))) == 40
    roberta = RobertaConfig(**SMALL, vocab_size=60, max_position_embeddings=40, pad_token_id=1)
    assert context_length(with_text_tower(roberta)) == 38
    assert context_length(BertModel(BertConfig(**SMALL, vocab_size=60))) is None  # no dual encoder


@pytest.mark.parametrize("make", [tiny_clip, tiny_siglip2])
def test_a_processor_that_fits_stays_the_same_object(make):
    model, processor = make()
    fitted = fit_processor(processor, model)
    assert fit_processor(fitted, model) is fitted
    assert make is tiny_siglip2 or fitted is processor


def test_what_is_corrected_is_logged_and_the_given_processor_stays(caplog):
    model, processor = tiny_siglip()
    processor.tokenizer = word_tokenizer(lowercase=False)
    with caplog.at_level(logging.WARNING):
        fitted = fit_processor(processor, model)
    assert "16 tokens at most (not 64), lower case, padding to the full length" in caplog.text
    assert fitted.tokenizer(["A PHOTO"])["input_ids"] == processor.tokenizer(["a photo"])["input_ids"]
    assert processor.tokenizer("A PHOTO").keys() == {"input_ids", "attention_mask"}
    assert processor.tokenizer.model_max_length == 64
    assert fitted.image_processor is processor.image_processor


def test_gemmas_tokenizer_is_saved_with_lower_case_and_all_its_tokens(tmp_path):
    tokenizer = gemma_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": ["<x>"]})
    fitted = fit_processor(SimpleNamespace(tokenizer=tokenizer), siglip()).tokenizer
    fitted.save_pretrained(tmp_path)
    stock = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("A Photo", "É <x> b", "ДОМ 😀"):
        assert stock(text) == fitted(text) == {"input_ids": tokenizer(text.lower())["input_ids"]}
    for name in ("padding_side", "pad_token_id", "eos_token_id", "all_special_ids"):
        assert getattr(stock, name) == getattr(tokenizer, name), name


class Characters(PreTrainedTokenizer):
    """A tokenizer in Python, as SentencePiece's are."""

    vocab_size = 128

    def get_vocab(self):
        return {chr(code): code for code in range(self.vocab_size)}

    def _tokenize(self, text):
        return list(text.lower() if getattr(self, "do_lower_case", False) else text)

    def _convert_token_to_id(self, token):
        return ord(token)


def test_a_switch_for_lower_case_is_turned_on_and_saved(tmp_path):
    tokenizer = Characters(pad_token="\0", model_max_length=64)
    with pytest.raises(ValueError, match="tokenizer Characters keeps capitals.*Allowed are fast tokenizers"):
        fit_processor(SimpleNamespace(tokenizer=tokenizer), siglip())
    tokenizer.do_lower_case = False
    fitted = fit_processor(SimpleNamespace(tokenizer=tokenizer), siglip()).tokenizer
    assert fitted("A b") == {"input_ids": [*map(ord, "a b")]} and not tokenizer.do_lower_case
    fitted.save_vocabulary = lambda *args, **kwargs: ()
    fitted.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert saved["do_lower_case"] is True and saved["model_input_names"] == ["input_ids"]
    assert saved["model_max_length"] == 24


def test_case_of_other_families_is_their_own():
    processor = SimpleNamespace(tokenizer=byte_tokenizer(lowercase=False))
    fitted = fit_processor(processor, altclip()).tokenizer
    assert fitted("AB") == processor.tokenizer("AB") and fitted.model_max_length == 24


def test_a_tokenizer_that_does_not_fit_is_refused(tmp_path):
    model, processor = load_clip(save_family("clip, tokenizer says 77", tmp_path))
    check_fits(model, processor, None, lambda rows: rows)
    processor.tokenizer.model_max_length = 77
    message = "tokenizer of the CLIPProcessor does not fit .* CLIPModel. It needs 24 tokens at most \\(not 77\\)"
    with pytest.raises(ValueError, match=message):
        check_fits(model, None, processor)
    check_fits(model, fit_processor(processor, model))
