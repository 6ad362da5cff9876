"""Trends over the length of training, in data whose epochs say nothing."""

import made_up_study as made_up
import pytest

from hf_clip_kd.study.cells.cells import read_study
from hf_clip_kd.study.cells.metrics import VQA, ZERO_SHOT
from hf_clip_kd.study.estimates.trends import doubling


def test_a_doubling_is_one_of_steps(tmp_path):
    """All trainings on a stream have one epoch. Their steps are those of the same study on counted data."""
    cells = made_up.cells(seeds=(0, 1), questions=50)
    counted = read_study(made_up.write(tmp_path / "counted", cells))
    stream = read_study(made_up.write(tmp_path / "stream", [cell | {"epochs": 1.0} for cell in cells]))
    for metric in (ZERO_SHOT, VQA):
        assert vars(doubling(stream, metric)) == pytest.approx(vars(doubling(counted, metric)))
    assert doubling(stream, ZERO_SHOT).value == pytest.approx(100 * made_up.ZERO_SHOT_DOUBLING, abs=1)
