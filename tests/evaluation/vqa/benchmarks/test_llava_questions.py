"""LLaVA's question files, and answers there and back."""

import json

import pytest
from vqa_benchmarks import S1, SAMPLES, lines

from hf_clip_kd.evaluation.vqa import READERS, WRITERS, Sample, read_answers


def test_reader(put):
    rows = [
        {"question_id": 1, "image": "a.jpg", "text": "Q?" + S1, "category": "random"},
        {"question_id": 2, "text": "T"},
    ]
    found = READERS["llava"](put("q.jsonl", lines(*rows)), put("images/a.jpg", "").parent)
    assert found[0].image.endswith("images/a.jpg")
    assert (found[0].prompt, found[0].category) == ("Q?" + S1, "random")
    assert found[1] == Sample(2, None, "T")


def test_answers_there_and_back(tmp_path):
    path = tmp_path / "new" / "answers.jsonl"
    answers = ["Yes,\tit's\n", "ü"]
    WRITERS["llava"](path, SAMPLES, answers, "my-model")
    assert read_answers(path, SAMPLES) == answers
    assert read_answers(path, SAMPLES[::-1]) == answers[::-1]
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert list(rows[0]) == ["question_id", "prompt", "text", "answer_id", "model_id", "metadata"]
    assert rows[0]["answer_id"] != rows[1]["answer_id"]


def test_a_sample_without_an_answer(tmp_path):
    WRITERS["llava"](tmp_path / "a", SAMPLES[:1], ["yes"], "m")
    with pytest.raises(ValueError, match="1 of 2 samples have no answer, the first is 1 with the prompt 'Is it not"):
        read_answers(tmp_path / "a", SAMPLES)


def test_answers_by_other_programs(put):
    rows = [{"question_id": str(sample.question_id), "prompt": sample.prompt, "text": 3} for sample in SAMPLES]
    extra = {"question_id": 9, "prompt": "?", "text": "other"}
    path = put("a.jsonl", "\ufeff" + lines(*rows, rows[0], extra).replace("\n", "\r\n"))
    assert read_answers(path, SAMPLES) == ["3", "3"]
    with pytest.raises(ValueError, match="a.jsonl, line 3: it has another answer to '1' with the prompt 'Is it"):
        read_answers(put("a.jsonl", lines(*rows, rows[0] | {"text": "4"})), SAMPLES)
    with pytest.raises(ValueError, match="2 of 2 samples have no answer"):
        read_answers(put("a.jsonl", lines(extra)), SAMPLES)
