"""Answers must fit the questions, whatever is written."""

import pytest
from vqa_benchmarks import SAMPLES

from hf_clip_kd.evaluation.vqa.files import pair_answers


def test_answers_must_fit():
    with pytest.raises(ValueError, match=r"There are 1 answers to 2 samples.*read_answers\(path, samples\)"):
        pair_answers(SAMPLES, ["yes"])
