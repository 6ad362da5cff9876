"""A caption decoder as a model of transformers and as a reader."""

import pytest
import torch
from transformers import AutoConfig
from transformers.loss.loss_utils import ForCausalLMLoss

from hf_clip_kd.models.tokenizer import clip_tokenizer
from hf_clip_kd.teachers.reader import Captioner, CaptionerConfig, load_reader
from hf_clip_kd.teachers.reader.texts import CaptionerTexts

SIZES = {"token_dim": 5, "num_tokens": 4, "vocab_size": 600, "hidden_size": 16, "num_heads": 2, "max_length": 20}
TEXTS = [(None, "a red hat"), (None, "a red cat")]


def make(**options):
    torch.manual_seed(0)
    return Captioner(CaptionerConfig(**SIZES | options)).eval()


def tokens(seed=1):
    return torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("fusion", ["cross", "prefix"])
def test_loss_is_that_of_transformers_for_texts_of_one_length(fusion):
    model, texts = make(fusion=fusion), CaptionerTexts(clip_tokenizer(600), 20)(TEXTS)
    assert (texts["labels"] >= 0).all()
    output = model(tokens=tokens(), **texts)
    logits = output.logits.unflatten(0, texts["labels"].shape)
    expected = ForCausalLMLoss(logits, texts["labels"], 600, shift_labels=texts["labels"])
    torch.testing.assert_close(output.loss, expected)


def test_a_folder_gives_the_same_answers(tmp_path):
    model, tokenizer = make(), clip_tokenizer(600)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is CaptionerConfig
    reader = load_reader(tmp_path)
    texts = CaptionerTexts(tokenizer, 20)(TEXTS)
    written = reader.texts(TEXTS)
    assert all(torch.equal(texts[name], written[name]) for name in texts)
    answers = reader.answers(tokens(), written)
    torch.testing.assert_close(answers.logits, model(tokens=tokens(), **texts).logits.detach())
    others = tokens(2).requires_grad_()
    answers.read(others).square().sum().backward()
    assert others.grad.abs().sum() > 0 and all(p.grad is None for p in reader.parameters())
    with pytest.raises(ValueError, match="layers=1.*is a caption decoder"):
        load_reader(tmp_path, layers=1)


def test_fresh_weights_are_those_of_torch():
    assert make().decoder.head.weight.std() > 0.1, "wider than transformers' 0.02"
