"""Answers must fit the questions, whatever is written."""

import pytest
from vqa_benchmarks import SAMPLES

from hf_clip_kd.evaluation.vqa import WRITERS
from hf_clip_kd.evaluation.vqa.files import pair_answers


def test_answers_must_fit():
    with pytest.raises(ValueError, match=r"There are 1 answers to 2 samples.*read_answers\(path, samples\)"):
        pair_answers(SAMPLES, ["yes"])


def test_no_file_of_empty_answers(tmp_path):
    with pytest.raises(ValueError, match="All 2 answers to these questions are empty"):
        WRITERS["vqav2"](tmp_path / "answers.json", SAMPLES, ["", " "])
    assert not list(tmp_path.iterdir())
