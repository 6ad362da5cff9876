"""VizWiz: its files and its submission."""

import json

from vqa_benchmarks import S1, SAMPLES

from hf_clip_kd.evaluation.vqa import READERS, WRITERS


def test_reader(put):
    rows = [
        {"image": "V_1.jpg", "question": "what IS this", "answers": [{"answer": "can"}] * 10, "answer_type": "other"},
        {"image": "V_2.jpg", "question": "and this?"},
    ]
    path = put("v.json", rows)
    first, second = READERS["vizwiz"](path)
    assert first.prompt == (
        "what IS this\nWhen the provided information is insufficient, respond with 'Unanswerable'." + S1
    )
    assert (first.answers, first.category, second.answers) == (("can",) * 10, "other", ())
    assert READERS["vizwiz"](path, protocol="lmms_eval")[0].prompt.startswith("What is this\n")


def test_submission(tmp_path):
    WRITERS["vizwiz"](tmp_path / "s", SAMPLES[:1], ["It's red."])
    assert json.loads((tmp_path / "s").read_text()) == [{"image": "a.jpg", "answer": "it 's red"}]
