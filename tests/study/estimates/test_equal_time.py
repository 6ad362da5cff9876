"""Scores at equal training time, by hand."""

import made_up_objectives as made_up
import pytest

from hf_clip_kd.study.cells.metrics import VQA, ZERO_SHOT
from hf_clip_kd.study.estimates.equal_time import SLOWER, all_lengths, at_seconds, seconds_of


@pytest.fixture
def lengths():
    """Trainings of 100 and 400 seconds, with 50 and 58 per cent."""
    return [
        [made_up.cell("L", "clip_kd", seed, score + seed, seconds=seconds) for seed in (0, 1)]
        for score, seconds in ((50, 100.0), (58, 400.0))
    ]


def test_a_score_lies_on_a_line_over_the_logarithm_of_the_seconds(lengths):
    found = at_seconds(lengths, 200.0)  # Half of the way from 100 to 400, by factors.
    assert [VQA.of(cell) for cell in found] == pytest.approx([54, 55])
    assert [ZERO_SHOT.of(cell) for cell in found] == pytest.approx([54, 55])
    assert [cell["axes"]["seed"] for cell in found] == [0, 1]


def test_only_seeds_of_both_lengths_count(lengths):
    assert [cell["axes"]["seed"] for cell in at_seconds([lengths[0], lengths[1][1:]], 200.0)] == [1]


@pytest.mark.parametrize(
    ("seconds", "score"), [(40.0, 50), (100.0, 50), (400.0, 58), (400.0 * SLOWER, 58), (400.0 * SLOWER + 1, None)]
)
def test_ends(lengths, seconds, score):
    found = at_seconds(lengths, seconds)
    assert found is None if score is None else VQA.of(found[0]) == pytest.approx(score)


@pytest.mark.parametrize(("seconds", "score"), [(100.0, 50), (150.0, 52), (225.0, 54), (300.0, 56), (400.0, 58)])
def test_a_length_itself_is_taken_as_it_is(lengths, seconds, score):
    """A third length lies between the two: 225 seconds, with 54 per cent and a third seed."""
    middle = [made_up.cell("L", "clip_kd", seed, 54 + seed, seconds=225.0) for seed in (0, 1, 2)]
    found = at_seconds([lengths[0], middle, lengths[1]], seconds)
    assert VQA.of(found[0]) == pytest.approx(score) and len(found) == (3 if seconds == 225 else 2)


def test_a_busy_hour_does_not_count(lengths):
    """The median of three trainings is that of the two undisturbed ones."""
    cells = [*lengths[0], made_up.cell("L", "clip_kd", 2, 50, seconds=900.0)]
    assert seconds_of(cells) == 100.0


def test_unknown_seconds_give_nothing(lengths):
    for length in lengths:
        for cell in length:
            del cell["seconds"]
    assert at_seconds(lengths, 200.0) is None and seconds_of(lengths[0]) is None
    assert at_seconds([], 200.0) is None and at_seconds(lengths, None) is None


def test_lengths_differ_in_the_duration_alone():
    study = made_up.study(made_up.students([0, 1], longer=("clip_kd",), language_models=("first", "second")))
    like = [cell for cell in study.cells if cell["axes"]["teacher"] == "L" and cell["axes"]["objective"] == "clip_kd"]
    found = all_lengths(study, [cell for cell in like if cell["axes"]["language_model"] == "second"])
    assert [[cell["axes"]["duration"] for cell in cells] for cells in found] == [["x1"] * 2, ["x2"] * 2]
    assert {cell["axes"]["language_model"] for cells in found for cell in cells} == {"second"}
