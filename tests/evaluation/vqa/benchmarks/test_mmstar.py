"""MMStar: its file, and its means against the authors' counters."""

import random
from collections import Counter

import pytest
from vqa_benchmarks import S2, compute, parquet, picture

from hf_clip_kd.evaluation.vqa import READERS, Sample
from hf_clip_kd.evaluation.vqa.benchmarks.mmstar import starting_letter
from hf_clip_kd.recipe_io.foreign import ForeignFileError

QUESTION = "Which?\nOptions: A: red, B: blue, C: green, D: grey"
ROW = {"index": 3, "question": QUESTION, "answer": "B", "category": "math", "l2_category": "geometry"}
ROW |= {"image": picture()}


def test_reader(tmp_path):
    path = parquet(tmp_path / "mmstar.parquet", ROW)
    (found,) = READERS["mmstar"](path, tmp_path / "images")
    assert found == Sample(3, found.image, QUESTION + S2, ("B",), category="math/geometry")
    (other,) = READERS["mmstar"](tmp_path, tmp_path / "images", protocol="lmms_eval")
    assert other.prompt == (QUESTION + S2)[:-1]


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("(b) x", "B"),
        ("Option B", "B"),
        ("The answer is B.", "B"),
        ("Blue", "B"),
        ("It is B", "I"),
        ("", ""),
    ],
)
def test_reads_as_the_authors_do(text, letter):
    assert starting_letter(text) == letter


def test_numbers_by_hand():
    kinds = ["math/geometry"] * 3 + ["math/statistical reasoning", "coarse perception/image emotion"]
    rows = [{"answers": ["A"], "category": kind} for kind in kinds]
    answers = ["A", "A", "B", "B", "A"]
    found = compute("mmstar", answers, *rows)
    assert (found["accuracy"], found["math/accuracy"], found["coarse perception/accuracy"]) == (0.6, 0.5, 1)
    other = compute("mmstar", answers, *rows, protocol="lmms_eval")
    assert other["math/accuracy"] == pytest.approx((2 / 3 + 0) / 2)
    assert other["accuracy"] == pytest.approx((2 / 3 + 0 + 1) / 3)


def test_against_the_authors_counters():
    """Their script counts right answers by kind, sums them by ability, and divides by the number of questions."""
    rng = random.Random(0)
    kinds = [rng.choice(["math/geometry", "math/sums", "logical reasoning/codes"]) for _ in range(200)]
    truth, said = ([rng.choice("ABCD") for _ in kinds] for _ in range(2))
    right, number = Counter(), Counter()
    for kind, label, letter in zip(kinds, truth, said, strict=True):
        right[kind] += label == letter
        number[kind] += 1
    rows = [{"answers": [label], "category": kind} for label, kind in zip(truth, kinds, strict=True)]
    found, other = (compute("mmstar", said, *rows, protocol=name) for name in ("llava", "lmms_eval"))
    math = ("math/geometry", "math/sums")
    assert found["accuracy"] == pytest.approx(right.total() / number.total())
    assert found["math/accuracy"] == pytest.approx(sum(right[k] for k in math) / sum(number[k] for k in math))
    assert other["accuracy"] == pytest.approx(sum(right[kind] / number[kind] for kind in number) / 3)


def test_wrong_files(tmp_path):
    path = parquet(tmp_path / "mmstar.parquet", ROW | {"answer": "E"})
    with pytest.raises(ForeignFileError, match="mmstar.parquet, row 0: `answer` is 'E', not the letter of an option"):
        READERS["mmstar"](path, tmp_path / "images")
