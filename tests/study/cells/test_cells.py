"""Lengths of training in a study: students of a stream all have one epoch, and their steps tell them apart."""

import made_up_study as made_up
import pytest

from hf_clip_kd.study.cells.cells import read_study, student_alone


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """Return a study whose longest training comes first, and whose trainings are all one epoch of a stream."""
    cells = [cell | {"epochs": 1.0} for cell in made_up.cells(seeds=(0, 1), questions=20)]
    cells = sorted(cells, key=lambda cell: -cell["steps"])
    return read_study(made_up.write(tmp_path_factory.mktemp("study") / "stream", cells))


def test_a_sweep_over_durations_is_in_the_order_of_steps(stream):
    assert list(stream.main_sweep("duration").cells) == ["x1", "x2", "x4"]


def test_of_equal_sweeps_the_longest_training_comes_first(stream):
    """Students without a teacher were trained to three lengths, here with two kinds of data."""
    alone = [cell for cell in stream.cells if cell["axes"]["teacher"] is None and cell["axes"]["duration"] != "x2"]
    others = [cell | {"axes": cell["axes"] | {"data": "attributes"}} for cell in alone]
    stream = type(stream)(stream.record, sorted([*alone, *others], key=lambda cell: cell["steps"]), [], 0)
    assert [sweep.fixed["duration"] for sweep in stream.sweeps("data")] == ["x4", "x1"]


@pytest.mark.parametrize(("longest", "duration"), [(True, "x4"), (False, "x1")])
def test_the_student_alone_is_the_one_of_most_or_fewest_steps(stream, longest, duration):
    found = student_alone(stream.cells, longest=longest)
    assert [cell["axes"]["duration"] for cell in found] == [duration] * 2
