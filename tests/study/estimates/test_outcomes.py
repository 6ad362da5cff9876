"""Scores by seed and question: which are drawn, and with what."""

import numpy as np
import pytest

from hf_clip_kd.study.cells.cells import Study
from hf_clip_kd.study.cells.metrics import AREA, BITS, VQA
from hf_clip_kd.study.estimates.outcomes import drawn_units, estimate, outcomes

IMAGES = [0, 0, 1, 1, 2, 2]


def cell(seed, *, shift=0.0, images=IMAGES):
    bits = (np.arange(6.0) + seed + shift).tolist()
    correct = [1, 1, 0, 0, 1, seed % 2]
    return {
        "axes": {"seed": seed},
        "vqa": {"accuracy": np.mean(correct), "answer_bits": np.mean(bits)},
        "vqa_correct": correct,
        "vqa_bits": bits,
        "vqa_images": images,
        "curve": {"area": {"accuracy": 0.5 + shift / 10, "answer_bits": 1.0}},
    }


def test_bits_are_paired_question_by_question_and_are_no_per_cent():
    found = outcomes([[cell(0), cell(1)], [cell(1, shift=-1), cell(0, shift=-1)]], BITS)
    assert found.scores.shape == (2, 2, 6) and found.images.tolist() == IMAGES
    assert (found.scores[1] - found.scores[0] == -1).all()
    lower = estimate([[cell(0), cell(1)], [cell(0, shift=-1), cell(1, shift=-1)]], BITS, [-1, 1])
    assert (lower.value, lower.low, lower.high) == (-1, -1, -1) and BITS.better(lower.value) > 0


def test_a_curve_area_is_one_number_for_each_seed():
    found = outcomes([[cell(0), cell(1, shift=1)]], AREA)
    assert found.scores.tolist() == [[[50], [60]]]


@pytest.mark.parametrize("images", [None, [0, 0, 1, 1, 2, 3]])
def test_cells_that_name_other_images_or_none(images):
    """Nobody names images: each question has its own. The cells disagree: they were not asked the same."""
    alone = outcomes([[cell(0, images=images), cell(1, images=images)]], VQA)
    assert alone.images.tolist() == (images or list(range(6)))
    mixed = outcomes([[cell(0)], [cell(0, images=images)]], VQA)
    assert mixed.scores.shape == ((2, 1, 6) if images is None else (2, 1, 1))


def test_what_is_drawn_is_said():
    def said(some):
        return drawn_units(Study({}, some, [], 0), VQA)

    assert said([cell(0)]).startswith("The 6 questions are about 3 images.")
    assert "each counts as an image of its own" in said([cell(0, images=None)])
    assert said([{"vqa": {"accuracy": 0.5}}]) is None
