"""CV-Bench: its files, and its means against the formula of its card."""

import random

import pandas
import pytest
from vqa_benchmarks import S2, compute, parquet, picture

from hf_clip_kd.evaluation.vqa import READERS, Sample
from hf_clip_kd.recipe_io.foreign import ForeignFileError

ROW = {"idx": 7, "prompt": "How many?\n(A) 1\n(B) 2", "choices": ["1", "2"], "answer": "(B)"}
ROW |= {"source": "COCO", "task": "Count", "image": picture()}


def test_reader(tmp_path):
    parquet(tmp_path / "test_2d.parquet", ROW)
    parquet(tmp_path / "test_3d.parquet", ROW | {"idx": 8, "source": "Omni3D", "task": "Depth"})
    first, second = READERS["cvbench"](tmp_path, tmp_path / "images")
    assert first == Sample(7, first.image, ROW["prompt"] + S2, ("B",), ("1", "2"), "COCO/Count")
    assert (second.category, second.image) == ("Omni3D/Depth", first.image)
    asked = READERS["cvbench"](tmp_path / "test_2d.parquet", tmp_path / "images", protocol="lmms_eval")[0].prompt
    note = "Note: You only need to respond with A, B without providing any additional information."
    assert asked == f"{note}\n\n{ROW['prompt']}"


def test_numbers_by_hand():
    kinds = ["ADE20K/Count", "COCO/Count", "COCO/Relation", "Omni3D/Depth"]
    rows = [{"answers": ["B"], "category": kind} for kind in kinds]
    found = compute("cvbench", ["B", "B", "A", "(b)"], *rows)
    assert (found["2d"], found["3d"], found["combined"], found["accuracy"]) == (0.75, 1, 0.875, 0.75)
    assert found["COCO/Relation/accuracy"] == 0
    part = compute("cvbench", ["B", "B"], *rows[:2])
    assert part["2d"] == 1 and not {"3d", "combined"} & set(part)
    assert compute("cvbench", ["The answer is B"], rows[0])["accuracy"] == 1
    assert compute("cvbench", ["The answer is B"], rows[0], protocol="lmms_eval")["accuracy"] == 0


def test_against_the_formula_of_the_card():
    rng = random.Random(0)
    table = pandas.DataFrame(
        [(rng.choice(["ADE20K", "COCO", "Omni3D"]), rng.choice("AB"), rng.choice("AB")) for _ in range(200)],
        columns=["source", "answer", "said"],
    )
    right = (table.answer == table.said).groupby(table.source).mean()
    expected = ((right["ADE20K"] + right["COCO"]) / 2 + right["Omni3D"]) / 2
    rows = [{"answers": [row.answer], "category": f"{row.source}/Count"} for row in table.itertuples()]
    assert compute("cvbench", list(table.said), *rows)["combined"] == pytest.approx(expected)


def test_wrong_files(tmp_path):
    parquet(tmp_path / "test_2d.parquet", ROW | {"answer": "(C)"})
    with pytest.raises(ForeignFileError, match=r"test_2d.parquet, row 0: `answer` is '\(C\)', not the letter"):
        READERS["cvbench"](tmp_path, tmp_path / "images")
