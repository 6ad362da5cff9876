"""Tokens of the Hub are found by their form, and as the value of the environment."""

import pytest

from hf_clip_kd.recipe_io.tokens import holds_token, without_tokens

TOKEN = "hf_" + "a1" * 17


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"https://me:{TOKEN}@hf.co", "https://me:<token>@hf.co"),
        (f"'{TOKEN}', {TOKEN}", "'<token>', <token>"),
        ("hf_clip_kd and hf_short", "hf_clip_kd and hf_short"),
        ("my own\\nsecret", "<token>"),
        ("my own\nsecret!", "<token>!"),
    ],
)
def test_tokens_are_not_shown(text, shown, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "my own\nsecret")
    assert without_tokens(text) == shown and holds_token(text) == (text != shown)
