"""recipes/import_language_model.py: a GGUF file becomes a plain folder, and is checked."""

import pytest
import torch
from tiny_gguf import tiny_llama, write_gguf
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_clip_kd.vlm import get_chat_template
from recipes import import_language_model


@torch.no_grad()
def test_the_folder_is_plain_and_the_check_is_printed(tmp_path, capsys, caplog):
    model, tokenizer = tiny_llama()
    file = write_gguf(tmp_path / "tiny.gguf", model, tokenizer, chat_template=get_chat_template("smollm2").jinja)
    found = import_language_model.main([file, str(tmp_path / "lm")])
    printed = capsys.readouterr().out
    assert f"{found['perplexity']:.2f}" in printed and f"{import_language_model.QUESTION} {found['answer']}" in printed
    # Both by hand, from the model that the file was made of.
    ids = tokenizer(import_language_model.TEXT, return_tensors="pt")["input_ids"]
    likely = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])
    assert found["perplexity"] == pytest.approx(likely.mean().neg().exp().item(), rel=1e-4)
    assert ("perplexity of at most 1000" in caplog.text) == (found["perplexity"] > 1000)
    question = get_chat_template("smollm2").jinja
    chat = [{"role": "user", "content": import_language_model.QUESTION}]
    asked = tokenizer.apply_chat_template(
        chat, chat_template=question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )["input_ids"]
    answer = asked
    for _ in range(12):
        answer = torch.cat([answer, model(answer).logits[:, -1:].argmax(-1)], dim=1)
    words = tokenizer.decode(answer[0, asked.shape[1] :], skip_special_tokens=True).strip()
    assert found["answer"] and words.startswith(found["answer"])
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


@torch.no_grad()
def test_a_model_that_guesses_is_warned_of(tmp_path, monkeypatch, caplog):
    model, tokenizer = tiny_llama()
    file = write_gguf(tmp_path / "tiny.gguf", model, tokenizer)
    monkeypatch.setattr(import_language_model, "WORST", 2)
    import_language_model.main([file, str(tmp_path / "lm")])
    assert "perplexity of at most 2. The file is damaged" in caplog.text


def test_a_folder_of_another_model_is_refused_in_one_line(tmp_path):
    model, tokenizer = tiny_llama()
    model.save_pretrained(tmp_path), tokenizer.save_pretrained(tmp_path)
    import_language_model.check_same(model, tokenizer, tmp_path)
    torch.nn.init.zeros_(model.model.norm.weight)
    with pytest.raises(ValueError, match="does not give the logits of the file"):
        import_language_model.check_same(model, tokenizer, tmp_path)
