"""The largest answers of a reader in a cache: what the reader would say, without the teacher's tokens."""

import pytest
import torch
from cache_world import CROPS, SEED, VIEWS, rows, teacher, writer
from made_up_reader import spelling_reader, with_questions
from safetensors.torch import load_file
from teacher_models import tiny_clip

import hf_clip_kd as kd
from hf_clip_kd.data.exchanges import every_exchange
from hf_clip_kd.losses import requested
from hf_clip_kd.teachers.reader import check_readers, with_answers

TOP_K = 4


@pytest.fixture
def world(tmp_path):
    online, reader, request = teacher(), spelling_reader(), requested("reader")
    options = {"request": request, "dtype": torch.float32, "readers": [reader], "top_k": TOP_K}
    made = writer(tmp_path / "cache", online, with_questions(rows()), views={"readers": [reader.texts]}, **options)
    cache = made.write()
    cache.prepare(request)
    online.prepare(request)
    return made, cache, online, reader


def test_stored_answers_are_the_largest_of_the_readers_own(world):
    made, cache, online, reader = world
    check_readers([reader], cache, (-2,))
    options = {"seed": SEED, "max_broken_fraction": 1.0, "readers": [reader.texts]}
    replay = kd.ReplayCollator(tiny_clip()[1], cache, **options)
    live = kd.CLIPDataCollator(tiny_clip()[1], online.processor, **VIEWS | options)
    for epoch in range(CROPS):
        replay.epoch = live.epoch = epoch
        stored, asked = replay(with_questions(rows())[3:16]), live(with_questions(rows())[3:16])
        found, expected = (
            with_answers(source.of_batch(batch), [reader], batch).answers[0]
            for source, batch in ((cache, stored), (online, asked))
        )
        largest = expected.logits.log_softmax(-1).topk(TOP_K)
        torch.testing.assert_close(found.logits, largest.values, rtol=1e-4, atol=1e-4)
        assert torch.equal(found.ids, largest.indices)
        assert torch.equal(found.labels, expected.labels) and torch.equal(found.owners, expected.owners)
        tokens = torch.randn(found.images, 16, 32)
        torch.testing.assert_close(found.read(tokens), expected.read(tokens))


def test_questions_of_one_picture_and_caption_have_their_own_answers(tmp_path):
    asked = [("a?", "dd"), ("bb?", "e"), ("ccc?", "fff")]
    data = [rows()[0] | {"question": question, "answers": [right]} for question, right in asked]
    data = [row | {"__index__": place} for place, row in enumerate(data)]
    online, reader, request = teacher(), spelling_reader(), requested("reader")
    options = {"request": request, "dtype": torch.float32, "readers": [reader], "top_k": TOP_K}
    cache = writer(tmp_path, online, data, views={"readers": [reader.texts]}, **options).write()
    cache.prepare(request)
    online.prepare(request)
    options = {"seed": SEED, "max_broken_fraction": 1.0, "readers": [reader.texts]}
    replay = kd.ReplayCollator(tiny_clip()[1], cache, **options)
    batch, live = replay(data), kd.CLIPDataCollator(tiny_clip()[1], online.processor, **VIEWS | options)(data)
    found = with_answers(cache.of_batch(batch), [reader], batch).answers[0]
    expected = with_answers(online.of_batch(live), [reader], live).answers[0]
    largest = expected.logits.log_softmax(-1).topk(TOP_K)
    torch.testing.assert_close(found.logits, largest.values, rtol=1e-4, atol=1e-4)
    assert torch.equal(found.ids, largest.indices) and replay.broken.broken == 0
    replay([data[0] | {"question": "d?"}])
    assert replay.broken.broken == 1, "nobody asked this question"


def test_no_token_is_stored_and_verification_finds_the_same(world):
    made, cache, _, reader = world
    names = set(load_file(next(cache.folder.glob("shard-*.safetensors"))))
    assert "0.image_tokens" not in names and {"0.answers_0_text_embeds", "0.answers_0_answer_ids"} <= names
    assert made.verify() < 1e-4
    assert (
        cache.of_batch(kd.ReplayCollator(tiny_clip()[1], cache, max_broken_fraction=1.0)(rows()[:2])).image_tokens
        is None
    )
    other = spelling_reader()
    other.image.weight.mul_(2)
    with pytest.raises(ValueError, match="holds the answers of other readers"):
        check_readers([other], cache, (-2,))


@pytest.mark.parametrize(
    "losses", ["patch", {"reader": 1.0, "patch": 1.0}, {"relation": {"level": "tokens"}}], ids=str
)
def test_losses_that_read_tokens_are_refused_before_the_training(world, losses):
    _, cache, *_ = world
    with pytest.raises(ValueError, match=r"lacks what the losses read: tokens \(it holds the answers.*--losses"):
        cache.prepare(requested(losses))


def test_every_text_of_a_row_is_asked():
    row = {"question": ["a?", "b?"], "answers": [["c"], ["d", "e"]]}
    assert every_exchange(row, ["f"]) == [("a?", "c"), ("b?", "d")]
    assert every_exchange({}, ["f", "g"]) == [(None, "f"), (None, "g")]
