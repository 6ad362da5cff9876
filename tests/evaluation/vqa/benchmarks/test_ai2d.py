"""AI2D: its files and its two ways to read a letter."""

import random

import pytest
from vqa_benchmarks import S2, compute, parquet, picture

from hf_clip_kd.evaluation.vqa import READERS, Sample
from hf_clip_kd.recipe_io.foreign import ForeignFileError

ROW = {"question": "What is A?", "options": ["ears", "nose"], "answer": "1", "image": picture()}


def test_reader(tmp_path):
    parquet(tmp_path / "data/test-0.parquet", ROW, ROW | {"answer": "0"})
    first, second = READERS["ai2d"](tmp_path, tmp_path / "images")
    assert first == Sample(0, first.image, "What is A?\nA. ears\nB. nose" + S2, ("B",), ("ears", "nose"))
    assert (second.question_id, second.answers, second.image) == (1, ("A",), first.image)


@pytest.mark.parametrize(
    ("text", "llava", "lmms_eval"),
    [
        ("B", 1, 1),
        ("b", 1, 1),
        ("(B)", 1, 1),
        ("B. nose", 1, 1),
        ("B nose", 1, 0),
        ("The answer is B", 1, 0),
        ("A. ears, not B.", 0, 0),
        ("", 0, 0),
    ],
)
def test_by_hand(text, llava, lmms_eval):
    row = {"answers": ["B"]}
    assert compute("ai2d", [text], row)["accuracy"] == llava
    assert compute("ai2d", [text], row, protocol="lmms_eval")["accuracy"] == lmms_eval


def test_against_exact_match():
    rng = random.Random(0)
    truth = [rng.choice("ABCD") for _ in range(200)]
    said = [rng.choice(["A", "b", "(C)", "D.", "E"]) for _ in truth]
    right = [text.strip("().").upper() == label for text, label in zip(said, truth, strict=True)]
    rows = [{"answers": [label]} for label in truth]
    for protocol in ("llava", "lmms_eval"):
        assert compute("ai2d", said, *rows, protocol=protocol)["accuracy"] == pytest.approx(sum(right) / 200)


def test_wrong_files(tmp_path):
    path = parquet(tmp_path / "test.parquet", ROW | {"answer": "2"})
    with pytest.raises(ForeignFileError, match="test.parquet, row 0: `answer` is 2, and there are 2 options from 0"):
        READERS["ai2d"](path, tmp_path / "images")
