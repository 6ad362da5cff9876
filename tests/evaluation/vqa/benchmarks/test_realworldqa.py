"""RealWorldQA: its files and its two ways to read an answer."""

import random

import pytest
from vqa_benchmarks import compute, parquet, picture

from hf_clip_kd.evaluation.vqa import READERS, Sample
from hf_clip_kd.evaluation.vqa.benchmarks.realworldqa import first_word
from hf_clip_kd.recipe_io.foreign import ForeignFileError

ASKED = "How many?\nPlease answer directly with a single word or number."
ROW = {"image": picture(), "question": f"{ASKED}\n", "answer": "2"}


def test_reader(tmp_path):
    parquet(tmp_path / "data/test-0.parquet", ROW, ROW | {"answer": "B"})
    first, second = READERS["realworldqa"](tmp_path, tmp_path / "images")
    assert first == Sample(0, first.image, ASKED, ("2",), category="open")
    assert (second.question_id, second.category) == (1, "choice")


@pytest.mark.parametrize(
    ("text", "answer", "llava", "lmms_eval"),
    [
        ("B", "B", 1, 1),
        ("b", "B", 1, 0),
        ("B. left", "B", 0, 1),  # sic: Cambrian-1 keeps the period of the first word
        ("The answer is B.", "B", 1, 1),
        ("(B)", "B", 0, 1),
        ("Yes.", "Yes", 1, 1),
        ("yes it is", "Yes", 1, 0),
        ("Answer: 2", "2", 1, 0),
        ("two", "2", 0, 0),
        ("", "2", 0, 0),
    ],
)
def test_by_hand(text, answer, llava, lmms_eval):
    row = {"answers": [answer], "category": "open"}
    assert compute("realworldqa", [text], row)["open/accuracy"] == llava
    assert compute("realworldqa", [text], row, protocol="lmms_eval")["accuracy"] == lmms_eval


def test_first_word_of_nothing():
    assert (first_word(""), first_word("."), first_word("The answer is ")) == ("", "", "")


def test_against_exact_match():
    rng = random.Random(0)
    truth = [rng.choice(["A", "B", "Yes", "3"]) for _ in range(200)]
    said = [rng.choice(["A", "b.", "yes", "3", "no"]) for _ in truth]
    right = [text.lower().strip(".") == label.lower() for text, label in zip(said, truth, strict=True)]
    rows = [{"answers": [label], "category": ""} for label in truth]
    assert compute("realworldqa", said, *rows)["accuracy"] == pytest.approx(sum(right) / len(right))


def test_wrong_files(tmp_path):
    path = parquet(tmp_path / "test.parquet", {"image": picture(), "question": "?", "answer": None})
    with pytest.raises(ForeignFileError, match="test.parquet: `answer` of row 0 is null"):
        READERS["realworldqa"](path, tmp_path / "images")
