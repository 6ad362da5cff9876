"""A replayed batch for readers: the same texts and answers as with the teacher itself."""

import torch
from cache_world import SEED, VIEWS, dataset, rows, teacher, writer
from made_up_reader import LinearReader
from teacher_models import tiny_clip

import hf_clip_kd as kd
from hf_clip_kd.losses import requested
from hf_clip_kd.teachers.reader import check_readers, with_answers


def write(found):
    """Each text's length, and the length of its answer."""
    labels = torch.tensor([[len(question or "") % 7, len(answer) % 7] for question, answer in found])
    return {"input_ids": labels.flip(1), "attention_mask": torch.ones_like(labels), "labels": labels}


def with_questions():
    asked = {"question": ["a?", "bb?", "ccc?"], "answers": [["d"], ["ee"], ["fff"]]}
    return [row | asked for row in rows()]


def test_texts_and_answers_are_those_of_the_teacher_itself(tmp_path):
    online, request = teacher(), requested("reader")
    cache = writer(tmp_path, online, request=request, dtype=torch.float32).write()
    online.prepare(request)
    cache.prepare(request)
    reader = LinearReader(32, 16)
    check_readers([reader], cache, (-2,))
    options = {"seed": SEED, "max_broken_fraction": 1.0, "readers": [write]}
    replay = kd.ReplayCollator(tiny_clip()[1], cache, **options)
    live = kd.CLIPDataCollator(tiny_clip()[1], online.processor, **VIEWS | options)
    stored, asked = replay(with_questions()[:6]), live(with_questions()[:6])
    for name in ("reader_0_input_ids", "reader_0_labels"):
        assert torch.equal(stored[name], asked[name])
    assert len(stored["reader_0_labels"].unique(dim=0)) > 1, "questions are drawn"
    found, expected = (
        with_answers(source.of_batch(batch), [reader], batch).answers[0]
        for source, batch in ((cache, stored), (online, asked))
    )
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-4, atol=1e-4)
    assert torch.equal(found.labels, expected.labels) and len(dataset()) > 6
