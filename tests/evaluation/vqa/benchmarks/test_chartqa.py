"""ChartQA: its two files, and relaxed accuracy by hand and in whole numbers."""

import random

import pytest
from vqa_benchmarks import S1, compute

from hf_clip_kd.evaluation.vqa import READERS, Sample
from hf_clip_kd.evaluation.vqa.benchmarks.chartqa import relaxed_correct
from hf_clip_kd.recipe_io.foreign import ForeignFileError

ROW = {"imgname": "41699051005347.png", "query": "How many?", "label": "14"}


def test_reader(put, tmp_path):
    put("test/test_augmented.json", [ROW | {"label": "Inspired"}])
    put("test/test_human.json", [ROW, ROW])
    found = READERS["chartqa"](tmp_path / "test")
    assert found[0] == Sample("human/0", ROW["imgname"], "How many?" + S1, ("14",), category="human")
    assert [(sample.question_id, sample.answers) for sample in found[1:]] == [
        ("human/1", ("14",)),
        ("augmented/0", ("Inspired",)),
    ]
    asked = READERS["chartqa"](tmp_path / "test", protocol="lmms_eval")[0].prompt
    assert asked == "How many?\nAnswer the question with a single word."


@pytest.mark.parametrize(
    ("prediction", "answer", "right"),
    [
        ("14", "14", True),
        ("14.7", "14", True),  # exactly 5 %
        ("14.8", "14", False),
        ("13.3", "14", True),
        ("-14", "14", False),
        ("12%", "0.12", True),
        ("12", "12%", False),
        ("0", "0", True),
        ("0.0", "0", False),  # an answer of zero is compared as text
        ("yes", "Yes", True),
        ("yes.", "Yes", False),
        ("1,000", "1000", False),
        ("nan", "NaN", True),
        ("inf", "14", False),
    ],
)
def test_by_hand(prediction, answer, right):
    assert relaxed_correct(prediction, answer) is right


def test_numbers():
    rows = [{"answers": ["14"], "category": kind} for kind in ("human", "human", "augmented")]
    found = compute("chartqa", ["14", "20", "13.9"], *rows)
    assert (found["accuracy"], found["human/accuracy"], found["augmented/accuracy"]) == (pytest.approx(2 / 3), 0.5, 1)


def test_against_whole_numbers():
    rng = random.Random(0)
    for _ in range(500):
        said, target = rng.randrange(1, 200), rng.randrange(1, 200)
        assert relaxed_correct(str(said), str(target)) == (20 * abs(said - target) <= target)


def test_wrong_files(put, tmp_path):
    with pytest.raises(ForeignFileError, match="it has neither file. It must be a folder with test_human.json"):
        READERS["chartqa"](tmp_path)
    with pytest.raises(ForeignFileError, match=r"test_human.json.*question 0 has no \['query', 'label'\]"):
        READERS["chartqa"](put("test_human.json", [{"imgname": "1.png"}]).parent)
