"""Rows and table of several models."""

from hf_clip_kd.data import load_shapes
from hf_clip_kd.evaluation import build_vqa_evaluator
from hf_clip_kd.evaluation.vqa import bits_of, is_bits, summary_row, summary_table


def test_bits_stand_beside_accuracy_and_are_no_per_cent():
    results = {
        "shapes": {"accuracy": 0.5, "answer_bits": 1.234, "count/accuracy": 0.25, "count/answer_bits": 3.0},
        "gqa": {"accuracy": 0.75, "answer_bits": 2.0},
        "llava": {},
    }
    row = summary_row("m", {"shapes": 0.5, "gqa": 0.75}, results)
    assert row == {
        "name": "m", "gqa": 0.75, "accuracy": 0.5, "answer_bits": 1.234, "gqa/answer_bits": 2.0,
        "by_type": {"count": 0.25},
    }  # fmt: skip
    head, *lines = summary_table([row, {"name": "oracle", "accuracy": 1.0}], set()).splitlines()
    assert head.split() == ["gqa", "accuracy", "answer_bits", "gqa/answer_bits", "count"]
    assert [line.split() for line in lines] == [
        ["m", "75.0", "50.0", "1.23", "2.00", "25.0"],
        ["oracle", "-", "100.0", "-", "-", "-"],
    ]
    assert bits_of(results) == {"shapes/answer_bits": 1.234, "gqa/answer_bits": 2.0}
    assert is_bits("answer_bits") and is_bits("count/answer_bits") and not is_bits("accuracy")


def test_yes_and_no_show_accuracy_beside_f1():
    results = {
        "pope": {"f1": 0.6, "accuracy": 0.5, "yes_ratio": 0.75, "random/accuracy": 0.5},
        "gqa": {"accuracy": 1.0},
    }
    row = summary_row("m", {"pope": 0.6, "gqa": 1.0}, results)
    assert row == {"name": "m", "pope": 0.6, "gqa": 1.0, "pope/accuracy": 0.5, "pope/yes_ratio": 0.75}
    assert summary_table([row], set()).split()[-4:] == ["60.0", "100.0", "50.0", "75.0"]


def test_points_of_mme_are_no_share(tmp_path):
    rows = [{"name": "m", "gqa": 0.5, "mme": 1153.0, "mme/answer_bits": 2.0}]
    assert summary_table(rows, {"mme"}).split()[-3:] == ["50.0", "1153.0", "2.00"]
    (tmp_path / "OCR").mkdir()
    (tmp_path / "OCR" / "a.txt").write_text("Is it red?\tYes\nIs it blue?\tNo\n")
    (tmp_path / "OCR" / "a.jpg").write_bytes(b"")
    entries = {"mme": {"folder": str(tmp_path)}, "shapes": {"split": "test"}}
    assert build_vqa_evaluator(entries, load_shapes).points == {"mme"}
