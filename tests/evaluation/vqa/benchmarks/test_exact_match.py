"""Exact match: case, white space and periods at the end do not count."""

import pytest

from hf_clip_kd.evaluation.vqa.benchmarks.exact_match import exact_match


@pytest.mark.parametrize(
    ("prediction", "answers", "score"),
    [
        (" Red. ", ["red"], 1),
        ("pink", ["red", "Pink."], 1),
        ("red one", ["red"], 0),
        ("", ["red"], 0),
        ("t-shirt", ["t shirt"], 0),
        ("3.5", ["3.5."], 1),
    ],
)
def test_by_hand(prediction, answers, score):
    assert exact_match(prediction, answers) == score
