"""GQA: its files, its scores and its submission."""

import json

import pytest
from vqa_benchmarks import S1, SAMPLES, compute

from hf_clip_kd.evaluation.vqa import READERS, WRITERS, Sample


def test_reader(put):
    row = {"question": "Is it?", "imageId": "n1", "answer": "yes", "types": {"structural": "verify"}}
    (found,) = READERS["gqa"](put("g.json", {"2013": row}))
    assert found == Sample("2013", "n1.jpg", "Is it?" + S1, ("yes",), category="verify")


def test_scores():
    rows = [
        {"answers": ["couch"], "category": "query"},
        {"answers": ["yes"], "category": "verify"},
        {"answers": ["t-shirt"], "category": "query"},
        {"answers": ["left"], "category": "choose"},
    ]
    predictions = ["Couch.", "yes, it is", "t shirt", ""]
    found = compute("gqa", predictions, *rows)
    assert found["scores"] == [1, 0, 0, 0]
    assert (found["accuracy"], found["open"], found["binary"], found["query/accuracy"]) == (0.25, 0.5, 0, 0.5)
    found = compute("gqa", ["Couch!", "yes", "TShirt", "left"], *rows, protocol="lmms_eval")
    assert found["scores"] == [1, 1, 1, 1]


def test_submission(tmp_path):
    WRITERS["gqa"](tmp_path / "s", SAMPLES[:1], ["It's red."])
    assert json.loads((tmp_path / "s").read_text()) == [{"questionId": 1, "prediction": "it's red"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1,\n", "line 2 is no JSON.*read_gqa"),
        ([1], "it holds a list, not a dict.*read_gqa"),
        ({}, "it holds no question.*read_gqa"),
        ({"1": {"question": "Q"}}, r"question '1' has no \['imageId'\]"),
    ],
)
def test_wrong_files(content, message, put):
    with pytest.raises(ValueError, match=message):
        READERS["gqa"](put("g", content))


def test_no_file():
    with pytest.raises(ValueError, match=r"nowhere.json: there is no such file.*must be.*read_gqa\("):
        READERS["gqa"](questions="nowhere.json")


@pytest.mark.parametrize("protocol", ["llava", "lmms_eval"])
def test_answers_of_your_own_files_may_have_capitals_and_periods(protocol):
    rows = [{"answers": [answer]} for answer in ("Red", "red.", " Red ", "blue")]
    assert compute("gqa", ["Red."] * 4, *rows, protocol=protocol)["scores"] == [1, 1, 1, 0]
