"""BLINK: its files, and its means over tasks."""

import random

import pytest
from PIL import Image
from vqa_benchmarks import S2, compute, parquet, picture

from hf_clip_kd.evaluation.vqa import READERS, Sample
from hf_clip_kd.evaluation.vqa.benchmarks.blink import SINGLE_IMAGE, cambrian_word
from hf_clip_kd.recipe_io.foreign import ForeignFileError

ROW = {"idx": "val_IQ_Test_3", "prompt": "Which?\n(A) x\n(B) y", "choices": ["x", "y"], "answer": "(A)"}
ROW |= {"image_1": picture(), "image_2": None}


def test_reader(tmp_path):
    parquet(tmp_path / "IQ_Test/val-0.parquet", ROW)
    parquet(tmp_path / "Jigsaw/val-0.parquet", ROW | {"idx": "val_Jigsaw_1", "image_2": picture("blue", (2, 6))})
    parquet(tmp_path / "Jigsaw/test-0.parquet", ROW | {"answer": "hidden"})
    single, several = READERS["blink"](tmp_path, tmp_path / "images")
    assert single == Sample("val_IQ_Test_3", single.image, ROW["prompt"] + S2, ("A",), ("x", "y"), "IQ_Test")
    assert several.category == "Jigsaw" and Image.open(several.image).size == (4 + 10 + 2, 6)
    asked = READERS["blink"](tmp_path / "IQ_Test", tmp_path / "images", protocol="lmms_eval")[0].prompt
    note = "Note: You only need to respond with A, B without providing any additional information."
    assert asked == f"{note}\n{ROW['prompt']}"


@pytest.mark.parametrize(
    ("text", "letter"),
    [("(A)", "A"), ("a", "A"), ("B. y", "B"), ("(B) y", "B"), ("The answer is A", "THE"), ("", "")],
)
def test_reads_as_cambrian_does(text, letter):
    assert cambrian_word(text) == letter


def test_numbers_by_hand():
    tasks = ["Jigsaw", "Jigsaw", "Jigsaw", "Counting"]
    rows = [{"answers": ["A"], "category": task} for task in tasks]
    answers = ["(A)", "B", "B", "A. x"]
    found = compute("blink", answers, *rows)
    assert (found["accuracy"], found["Jigsaw/accuracy"]) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert "single_image" not in found
    assert compute("blink", answers, *rows, protocol="lmms_eval")["accuracy"] == 0.5


def test_against_the_authors_sum():
    """Their script counts right answers and questions by task, and averages the quotients."""
    rng = random.Random(0)
    tasks = [rng.choice([*SINGLE_IMAGE, "Jigsaw", "Art_Style"]) for _ in range(300)]
    truth, said = ([rng.choice("ABC") for _ in tasks] for _ in range(2))
    right, number = dict.fromkeys(tasks, 0), dict.fromkeys(tasks, 0)
    for task, label, letter in zip(tasks, truth, said, strict=True):
        number[task] += 1
        right[task] += f"({label})" == f"({letter})"
    shares = {task: right[task] / number[task] for task in number}
    rows = [{"answers": [label], "category": task} for label, task in zip(truth, tasks, strict=True)]
    found = compute("blink", said, *rows)
    assert found["accuracy"] == pytest.approx(sum(shares.values()) / len(shares))
    assert found["single_image"] == pytest.approx(sum(shares[task] for task in SINGLE_IMAGE) / 6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": "hidden"}, "row 0: `answer` is 'hidden', not the letter of a choice"),
        ({"image_1": None}, "row 0: it has no image"),
        ({"image_2": {"bytes": b"no", "path": "x"}}, "row 0: an image cannot be read"),
    ],
)
def test_wrong_files(change, message, tmp_path):
    parquet(tmp_path / "val.parquet", ROW | change)
    with pytest.raises(ForeignFileError, match=f"val.parquet, {message}"):
        READERS["blink"](tmp_path, tmp_path / "images")
