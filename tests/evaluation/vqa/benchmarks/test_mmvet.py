"""MM-Vet: its questions, and answers for its judge."""

import json

from vqa_benchmarks import SAMPLES

from hf_clip_kd.evaluation.vqa import READERS, WRITERS, Sample


def test_reader(put):
    row = {"imagename": "v1_0.png", "question": "Why?", "answer": "x", "capability": ["ocr", "math"]}
    (found,) = READERS["mmvet"](put("m.json", {"v1_0": row}))
    assert found == Sample("v1_0", "v1_0.png", "Why?", ("x",), category="ocr,math")


def test_submission(tmp_path):
    WRITERS["mmvet"](tmp_path / "s", SAMPLES[:1], ["It's red."])
    assert json.loads((tmp_path / "s").read_text()) == {"v1_1": "It's red."}
