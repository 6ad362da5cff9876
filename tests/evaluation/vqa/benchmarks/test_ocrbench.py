"""OCRBench: its file, and the points of the authors' script."""

import random

import pytest
from vqa_benchmarks import compute

from hf_clip_kd.evaluation.vqa import READERS, Sample
from hf_clip_kd.evaluation.vqa.benchmarks.ocrbench import RECOGNITION
from hf_clip_kd.recipe_io.foreign import ForeignFileError

FORMULAS = "Handwritten Mathematical Expression Recognition"
ROW = {"dataset_name": "svt", "id": 3, "image_path": "svt/3.png", "question": "what is written in the image?"}
ROW |= {"answers": "CENTRE", "type": "Regular Text Recognition"}


def test_reader(put):
    first, second = READERS["ocrbench"](put("o.json", [ROW, ROW | {"id": 4, "answers": ["a", "b"], "type": FORMULAS}]))
    assert first == Sample("svt/3", "svt/3.png", ROW["question"], ("CENTRE",), category=ROW["type"])
    assert (second.answers, second.category) == (("a", "b"), FORMULAS)


@pytest.mark.parametrize(
    ("text", "answers", "kind", "llava", "lmms_eval"),
    [
        ("The word is Centre.", ["CENTRE"], "x", 1, 1),
        ("cent re", ["centre"], "x", 0, 0),
        ("a\nb", ["x", "a b"], "x", 1, 1),
        ("B a = C", ["Ba=C\n"], FORMULAS, 1, 1),
        ("b a = C", ["B a = C"], FORMULAS, 0, 0),
        ("ＡＢ１", ["ab1"], "x", 0, 1),
        ("ＡＢ１", ["AB1"], FORMULAS, 0, 0),
        ("", ["a"], "x", 0, 0),
    ],
)
def test_by_hand(text, answers, kind, llava, lmms_eval):
    row = {"answers": answers, "category": kind}
    assert compute("ocrbench", [text], row)["accuracy"] == llava
    assert compute("ocrbench", [text], row, protocol="lmms_eval")["accuracy"] == lmms_eval


def test_against_the_authors_points():
    """A point for each answer in the text, by type; the recognition of words is the sum of six types."""
    rng = random.Random(0)
    types = [*RECOGNITION, "Doc-oriented VQA", FORMULAS]
    rows, said, points, number = [], [], dict.fromkeys(types, 0), dict.fromkeys(types, 0)
    for _ in range(300):
        kind, answer = rng.choice(types), rng.choice(["a b", "C", "d"])
        said.append(rng.choice(["it is A B", "ab", "c", "C", "a d"]))
        rows.append({"answers": [answer], "category": kind})
        if kind == FORMULAS:
            points[kind] += answer.replace(" ", "") in said[-1].replace(" ", "")
        else:
            points[kind] += answer.lower() in said[-1].lower()
        number[kind] += 1
    found = compute("ocrbench", said, *rows)
    assert 300 * found["accuracy"] == pytest.approx(sum(points.values()))
    words = sum(points[kind] for kind in RECOGNITION) / sum(number[kind] for kind in RECOGNITION)
    assert found["recognition"] == pytest.approx(words)
    assert found[f"{FORMULAS}/accuracy"] == pytest.approx(points[FORMULAS] / number[FORMULAS])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({}, "a dict"),
        ([{}], r"question 0 has no \['dataset_name', 'id', 'image_path', 'question', 'type'\]"),
        ([ROW | {"answers": [None]}], "`answers` of question 0 has an item 0 that is null"),
    ],
)
def test_wrong_files(rows, message, put):
    with pytest.raises(ForeignFileError, match=f"o.json.*{message}.*read_ocrbench"):
        READERS["ocrbench"](put("o.json", rows))
