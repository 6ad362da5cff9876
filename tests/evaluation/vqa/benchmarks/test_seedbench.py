"""SEED-Bench: its questions about images, its scores and its submission."""

import json

import pytest
from vqa_benchmarks import S2, SAMPLES, compute

from hf_clip_kd.evaluation.vqa import READERS, WRITERS, Sample

ROW = {
    "question_id": "1_0",
    "question": "How?",
    "answer": "C",
    "data_type": "image",
    "data_id": "9",
    "question_type_id": 1,
}
ROW |= {f"choice_{letter}": letter * 2 for letter in "abcd"}


def test_reader_keeps_the_images(put):
    rows = [ROW, ROW | {"data_type": "video"}]
    (found,) = READERS["seedbench"](put("s.json", {"questions": rows, "question_type": {"Scene Understanding": 1}}))
    prompt = "How?\nA. aa\nB. bb\nC. cc\nD. dd" + S2
    assert found == Sample("1_0", "9", prompt, ("C",), ("aa", "bb", "cc", "dd"), "Scene Understanding")


def test_scores():
    rows = [{"answers": ["B"], "category": "Scene"}] * 4
    predictions = ["B", "B.", "b", ""]
    assert compute("seedbench", predictions, *rows)["scores"] == [1, 0, 0, 0]
    assert compute("seedbench", predictions, *rows, protocol="lmms_eval")["Scene/accuracy"] == 0.75


def test_submission(tmp_path):
    WRITERS["seedbench"](tmp_path / "s", SAMPLES[:1], ["A"])
    assert json.loads((tmp_path / "s").read_text()) == {"question_id": 1, "prediction": "A"}


def test_wrong_file(put):
    with pytest.raises(ValueError, match=r"question 0 has no \['question_id'"):
        READERS["seedbench"](put("s", {"questions": [{}], "question_type": {}}))
