"""Language models in GGUF files: the weights, the tokenizer, the LLaVA on them, and files that cannot be read."""

import gguf
import pytest
import torch
from tiny_gguf import tiny_llama, write_gguf
from vlm_parts import image_processor, timm_tower

from hf_clip_kd.vlm import build_llava, get_chat_template, load_llava, save_llava
from hf_clip_kd.vlm.gguf import load_gguf

TEXT = "What colour is it? a square, a circle."


@pytest.fixture(scope="module")
def model_and_tokenizer():
    return tiny_llama()


def ids_of(tokenizer):
    return tokenizer(TEXT, return_tensors="pt")["input_ids"]


@torch.no_grad()
def test_the_model_is_the_one_that_was_written(model_and_tokenizer, tmp_path):
    model, tokenizer = model_and_tokenizer
    chat = get_chat_template("smollm2").jinja
    name = write_gguf(tmp_path / "tiny.gguf", model, tokenizer, chat_template=chat)
    read, own = load_gguf(f"{tmp_path}//tiny.gguf")
    ids = ids_of(tokenizer)
    assert torch.equal(ids_of(own), ids) and own.chat_template == chat
    assert (own.eos_token, own.bos_token, own.pad_token) == ("<|im_end|>", "<|im_start|>", "<|im_end|>")
    torch.testing.assert_close(read(ids).logits, model(ids).logits, rtol=0, atol=1e-6)
    assert read.lm_head.weight is read.model.embed_tokens.weight
    assert torch.equal(load_gguf(name)[0](ids).logits, read(ids).logits)  # the path of the file is a name, too


@torch.no_grad()
def test_quantised_weights_are_unpacked_and_can_be_saved(model_and_tokenizer, tmp_path):
    model, tokenizer = model_and_tokenizer
    kind = gguf.GGMLQuantizationType.Q4_1
    read, own = load_gguf(write_gguf(tmp_path / "tiny.gguf", model, tokenizer, quantized=kind))
    # The blocks of Q4_1 have 16 levels from their smallest number to their largest.
    blocks = model.model.layers[0].mlp.up_proj.weight.reshape(-1, 32)
    step = (blocks.amax(1) - blocks.amin(1)) / 15
    error = (read.model.layers[0].mlp.up_proj.weight.reshape(-1, 32) - blocks).abs().amax(1)
    assert 0 < error.max() and (error <= 0.6 * step).all()
    read.save_pretrained(tmp_path / "saved")
    again = type(read).from_pretrained(tmp_path / "saved")
    assert torch.equal(again(ids_of(own)).logits, read(ids_of(own)).logits)
    assert not hasattr(again.config, "quantization_config")


@torch.no_grad()
def test_a_llava_stands_on_it(model_and_tokenizer, tmp_path):
    """The template is found by its own words, and the saved folder needs no GGUF any more."""
    model, tokenizer = model_and_tokenizer
    name = write_gguf(tmp_path / "tiny.gguf", model, tokenizer, chat_template=get_chat_template("smollm2").jinja)
    llava, processor = build_llava(timm_tower("vit"), name, image_processor=image_processor())
    assert processor.chat_template == get_chat_template("smollm2").jinja
    save_llava(llava, processor, tmp_path / "llava")
    (tmp_path / "tiny.gguf").unlink()
    again, _ = load_llava(tmp_path / "llava")
    ids = ids_of(tokenizer)
    rows = len(tokenizer)  # `<image>` and padding may have added rows
    assert torch.equal(again(input_ids=ids).logits, llava(input_ids=ids).logits)
    torch.testing.assert_close(llava(input_ids=ids).logits[..., :rows], model(ids).logits, rtol=0, atol=1e-6)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("hf_clip_kd.vlm.gguf.is_gguf_available", lambda: False)
    with pytest.raises(
        ValueError,
        match=r"'a//b.gguf' is a GGUF file.*Only such files need it. Run `pip install 'hf_clip_kd\[gguf\]'`",
    ):
        load_gguf("a//b.gguf")


def test_a_file_that_cannot_be_read_is_named(model_and_tokenizer, tmp_path):
    with pytest.raises(ValueError, match="none.gguf' cannot be read .*Check the path"):
        load_gguf(f"{tmp_path}//none.gguf")
    (tmp_path / "page.gguf").write_text("<!DOCTYPE html>" * 100)
    with pytest.raises(ValueError, match="page.gguf' cannot be read .*download the file again"):
        load_gguf(f"{tmp_path}/page.gguf")
    lost = "model.layers.1.mlp.up_proj.weight"
    name = write_gguf(tmp_path / "lacks.gguf", *model_and_tokenizer, leave_out=[lost])
    with pytest.raises(ValueError, match=f"lacks.gguf' cannot be read .*{lost}"):
        load_gguf(name)
