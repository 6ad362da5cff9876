"""The tokenizer of the presets: open_clip's ids with the full vocabulary, every text with a cut one."""

import open_clip
import pytest

from hf_clip_kd.models import load_clip
from hf_clip_kd.models.tokenizer import clip_tokenizer

TEXTS = ["a photo of a red circle", "two small dogs & a cat!"]


ORDINARY_TEXTS = [
    "a photo of a cat.",
    "Two dogs, one ball & 3 birds!",
    "it's the dog's   bone",
    "an  UPPER-case   sentence\twith\nspace",
    "Zürich in 1999 — naïve café",
    "它是一只猫",
    "price: $5.99 (50% off) #1",
    "emoji 🙂 and 🚀",
    "",
    "long " * 100,
]


@pytest.mark.parametrize("text", ORDINARY_TEXTS)
def test_full_tokenizer_gives_the_ids_of_open_clip(text):
    ids = clip_tokenizer()(text, truncation=True).input_ids
    theirs = open_clip.get_tokenizer("ViT-B-16")([text])[0].tolist()
    assert ids + [0] * (77 - len(ids)) == theirs


@pytest.mark.parametrize("vocab_size", [515, 600, 4096, 8192])
def test_cut_tokenizer_writes_every_text(vocab_size, tmp_path):
    tokenizer = clip_tokenizer(vocab_size, 32)
    assert len(tokenizer) == vocab_size
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (vocab_size - 2, vocab_size - 1)
    for text in ("a small striped red circle", "zürich 它 🙂"):
        ids = tokenizer(text).input_ids
        assert ids[-1] == tokenizer.eos_token_id and max(ids) < vocab_size
        assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == text.replace(" ", "")
    assert tokenizer("red " * 100, truncation=True).input_ids[-1] == tokenizer.eos_token_id
    tokenizer.save_pretrained(tmp_path)
    assert type(tokenizer).from_pretrained(tmp_path)(TEXTS).input_ids == tokenizer(TEXTS).input_ids


def test_shapes_students_need_few_tokens():
    _, processor = load_clip("shapes-vit-t")
    for word in ("red", "circle", "square", "diamond", "purple", "yellow", "above", "left", "small", "large", "white"):
        assert len(processor.tokenizer(word).input_ids) == 3, word
    assert len(processor.tokenizer("triangle striped dotted plain cyan").input_ids) <= 2 + 2 * 5


@pytest.mark.parametrize("vocab_size", [514, 49409, 2])
def test_tokenizer_size_out_of_range(vocab_size):
    with pytest.raises(ValueError, match=f"vocab_size={vocab_size} .*Allowed are 515 to 49408. Use"):
        clip_tokenizer(vocab_size)
