"""Building from a recipe's block: errors come before any model is asked."""

from pathlib import Path

import pytest

from hf_clip_kd.data import load_shapes
from hf_clip_kd.evaluation import build_vqa_evaluator

BAD = [
    ({}, r"`evaluation=\{\}` asks for nothing.*At least one of vqav2, gqa"),
    ({"gqa": "x.json"}, "`evaluation`, 'gqa': 'x.json' names no data.*mapping"),
    ({"gqua": {}}, "'gqua' is no benchmark.*There are vqav2.*benchmark: gqa"),
    ({"gqa": {"question": "x"}}, "'question' is no argument of the benchmark 'gqa'.*Did you mean `questions`"),
    ({"vizwiz": {"annotations": "x", "protocol": "mine"}}, "`protocol: 'mine'` does not exist.*llava, lmms_eval"),
    ({"gqa": {}}, "'gqa': `questions` has no value.*Add `questions: PATH`"),
    ({"gqa": {"questions": "no.json"}}, "'gqa': no.json: there is no such file"),
    ({"textvqa": {"annotations": "x", "ocr": True}}, "`ocr: True` is no path.*Write `ocr: PATH`"),
    ({"gqa": {"questions": "x", "batch_size": 0}}, "`batch_size: 0` is no number of things.*1 or more"),
    ({"gqa": {"questions": "x", "max_samples": "all"}}, "`max_samples: 'all'` is no number"),
    ({"gqa": {"questions": "x", "max_new_tokens": None}}, "`max_new_tokens: None` is no number"),
    ({"gqa": {"questions": "x", "likelihood": "best"}}, "`likelihood: 'best'` is no way.*true, false or a mapping"),
    ({"gqa": {"questions": "x", "likelihood": {"answer": "best"}}}, "is no way to measure it.*answers and length"),
    ({"gqa": {"questions": "x", "likelihood": {"answers": "all"}}}, "'gqa': `likelihood.*'all'}` does not exist"),
    ({"mmvet": {"questions": "x", "likelihood": True}}, "'mmvet': `likelihood: True`.*free texts.*Leave it out"),
]


@pytest.mark.parametrize(("evaluation", "message"), BAD)
def test_bad_blocks(evaluation, message):
    with pytest.raises(ValueError, match=message):
        build_vqa_evaluator(evaluation, load_shapes)


def test_every_image_is_looked_for(gqa, images):
    Path(images, "2.jpg").unlink()
    with pytest.raises(ValueError, match=r"'gqa': 1 of 2 images are missing, the first is .*2\.jpg.*image_folder"):
        build_vqa_evaluator({"gqa": gqa})
    assert build_vqa_evaluator({"gqa": gqa | {"max_samples": 1}}).benchmarks[0].samples[0].question_id == "a"
