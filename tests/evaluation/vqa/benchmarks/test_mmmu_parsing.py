"""Letters and open answers of MMMU, as the official script and lmms-eval read them."""

import pytest

from hf_clip_kd.evaluation.vqa.benchmarks.mmmu_parsing import open_is_correct, read_choice


class NoLuck:
    def choice(self, letters):
        return "drawn"


@pytest.mark.parametrize(
    ("text", "llava", "lmms_eval"),
    [
        ("B", "B", "B"),
        ("(B)", "B", "B"),
        ("B.", "B", "B"),
        ("(A) or (C)", "C", "C"),
        ("C or rather A", "A", "A"),
        ("(A) not B", "A", "A"),
        ("B. green", "drawn", "B"),
        ("TEXA green", "drawn", "A"),
        ("b", "drawn", "drawn"),
        ("", "drawn", "drawn"),
        ("it is green", "drawn", "drawn"),
        ("I think that it must be Green", "B", "B"),
        ("it may be green or it may be red", "A", "A"),
    ],
)
def test_reads_letters(text, llava, lmms_eval):
    choices = ["red", "green", "blue"]
    assert read_choice(text, choices, NoLuck()) == llava
    assert read_choice(text, choices, NoLuck(), "lmms_eval") == lmms_eval


@pytest.mark.parametrize(
    ("text", "answers", "correct"),
    [
        ("12", ["12"], True),
        ("The answer is 12.004", ["12"], True),
        ("x = 1,234", ["1234"], True),
        ("1.5e3", ["1500"], True),
        ("So the total is $3.50", ["3.5"], True),
        ("13", ["12"], False),
        ("The lens is convex.", ["convex"], True),
        ("convex", ["concave", "convex"], True),
        ("answer x y", ["x"], True),
        ("axe", ["x"], False),
        ("", ["x"], False),
    ],
)
def test_open_answers(text, answers, correct):
    assert open_is_correct(text, answers) is correct
