"""ScienceQA: its files and its scores."""

import pytest
from vqa_benchmarks import S2, compute

from hf_clip_kd.evaluation.vqa import READERS, Sample
from hf_clip_kd.evaluation.vqa.benchmarks.scienceqa import read_letter


@pytest.fixture
def files(put):
    row = {"question": "Which?", "choices": ["x", "y"], "answer": 1, "hint": "", "image": None, "subject": "s"}
    return {
        "problems": put("p.json", {"3": row, "4": row | {"hint": "Look.", "image": "image.png"}, "5": {}}),
        "splits": put("s.json", {"test": ["3", "4"]}),
    }


def test_reader(files):
    text, picture = READERS["scienceqa"](**files)
    assert text == Sample("3", None, "Which?\nA. x\nB. y" + S2, ("B",), ("x", "y"), "s")
    assert (picture.image, picture.prompt) == ("4/image.png", "Context: Look.\nWhich?\nA. x\nB. y" + S2)


@pytest.mark.parametrize(
    ("text", "llava", "lmms_eval"),
    [
        ("B", "B", "B"),
        ("b", "", "B"),
        ("B. red", "B", "B"),
        ("B.", "", "B"),
        ("B.red", "", "B"),
        ("The answer is B.", "B", ""),
        ("The answer is B", "", ""),
        ("The answer is B. The answer is C.", "", ""),
        ("red", "", ""),
        ("", "", ""),
        ("F", "", "F"),
    ],
)
def test_reads_letters(text, llava, lmms_eval):
    assert (read_letter(text), read_letter(text, "lmms_eval")) == (llava, lmms_eval)


def test_scores_img_and_all():
    rows = [{"answers": ["A"], "image": "1/image.png"}, {"answers": ["B"], "image": None}, {"answers": ["B"]}]
    found = compute("scienceqa", ["A", "C", "A. red"], *rows)
    assert (found["accuracy"], found["accuracy_img"]) == (pytest.approx(1 / 3), 0.5)


def test_wrong_files(files, put):
    row = {"question": "?", "choices": ["x", "y"], "answer": 2}
    with pytest.raises(ValueError, match="p, problem '1': `answer` is 2, and there are 2 choices from 0"):
        READERS["scienceqa"](put("p", {"1": row}), put("s", {"test": [1]}))
    with pytest.raises(ValueError, match=r"no split 'dev', only \['test'\]"):
        READERS["scienceqa"](**files, split="dev")
    with pytest.raises(ValueError, match="it has no problem '9'.*read_scienceqa"):
        READERS["scienceqa"](files["problems"], put("s", {"test": ["9"]}))
