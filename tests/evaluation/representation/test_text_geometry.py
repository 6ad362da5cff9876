"""Features of texts in a language model: its hidden states, one text at a time."""

import pytest
import torch
from tiny_llava import make_tokenizer
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from hf_clip_kd.evaluation.representation import language_model_features, text_geometry

TEXTS = ["red", "what color is the object at the top left ?", "blue circle"]


@pytest.fixture
def language_model(tmp_path, monkeypatch):
    """A folder of a small language model. Its type would give it the byte-pair tokenizer of Qwen."""
    tokenizer = make_tokenizer()
    monkeypatch.setattr(text_geometry.AutoTokenizer, "from_pretrained", lambda name: tokenizer)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("batch_size", [1, 3])
def test_mean_state_after_the_last_layer_but_one(language_model, batch_size):
    features = language_model_features(str(language_model), TEXTS, batch_size=batch_size)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(language_model), make_tokenizer()
    for text, feature in zip(TEXTS, features, strict=True):
        ids = tokenizer(text, return_tensors="pt").input_ids
        with torch.no_grad():
            x = model.model.embed_tokens(ids)
            rotary = model.model.rotary_emb(x, torch.arange(ids.shape[1])[None])
            for layer in model.model.layers[:2]:
                mask = torch.full((ids.shape[1],) * 2, -torch.inf).triu(1)[None, None]
                x = layer(x, attention_mask=mask, position_embeddings=rotary)
        torch.testing.assert_close(feature, x[0].mean(dim=0), rtol=1e-3, atol=1e-4)


def test_a_text_without_tokens(language_model):
    with pytest.raises(ValueError, match="makes no tokens of 1 of 2 texts, such as ' '.*Leave these rows out"):
        language_model_features(str(language_model), ["red", " "], batch_size=2)


def test_a_name_that_is_no_language_model(tmp_path):
    with pytest.raises(
        ValueError, match=r"(?s)`language_model=.* cannot be loaded .*causal language model.*Check the name"
    ):
        language_model_features(str(tmp_path / "none"), TEXTS, batch_size=2)
