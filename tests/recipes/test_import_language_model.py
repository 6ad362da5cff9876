"""recipes/import_language_model.py: a GGUF file becomes a plain folder, and is checked."""

import pytest
import torch
from tiny_gguf import tiny_llama, write_gguf
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_clip_kd.vlm import get_chat_template
from recipes import import_language_model


@torch.no_grad()
def test_the_folder_is_plain_and_the_check_is_printed(tmp_path, capsys):
    model, tokenizer = tiny_llama()
    file = write_gguf(tmp_path / "tiny.gguf", model, tokenizer, chat_template=get_chat_template("smollm2").jinja)
    found = import_language_model.main([file, str(tmp_path / "lm")])
    assert f"{found['perplexity']:.2f}" in capsys.readouterr().out and found["answer"]
    saved, own = (kind.from_pretrained(tmp_path / "lm") for kind in (AutoModelForCausalLM, AutoTokenizer))
    ids = tokenizer(import_language_model.TEXT, return_tensors="pt")["input_ids"]
    torch.testing.assert_close(saved(ids).logits, model(ids).logits, rtol=0, atol=1e-6)
    assert own.chat_template == get_chat_template("smollm2").jinja
    with pytest.raises(ValueError, match="holds files already"):
        import_language_model.main([file, str(tmp_path / "lm")])


def test_perplexity_of_a_model_that_knows_nothing_is_its_vocabulary():
    model, tokenizer = tiny_llama()
    torch.nn.init.zeros_(model.model.norm.weight)
    assert import_language_model.perplexity(model, tokenizer) == pytest.approx(len(tokenizer), rel=1e-4)
