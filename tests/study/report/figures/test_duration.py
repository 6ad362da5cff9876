"""Figure of scores over the length of training: one point for each length, in epochs where these are known."""

import made_up_study as made_up
import matplotlib.pyplot as plt
import pytest

from hf_clip_kd.study.cells.cells import read_study
from hf_clip_kd.study.cells.metrics import ZERO_SHOT
from hf_clip_kd.study.report.figures.duration import draw, lines


@pytest.mark.parametrize(
    ("changes", "unit", "labels"),
    [
        ({}, "epochs", ["1", "2", "4"]),
        ({"epochs": 1.0}, "steps", ["100", "200", "400"]),
    ],
    ids=["counted", "stream"],
)
def test_each_length_is_a_point_and_has_a_tick(tmp_path, changes, unit, labels):
    cells = [cell | changes for cell in made_up.cells(seeds=(0, 1), questions=20)]
    study = read_study(made_up.write(tmp_path / "study", cells))
    figure = draw(study, narrow=False)
    try:
        (panel, *_) = figure.axes
        assert panel.get_xlabel() == unit
        assert [label.get_text() for label in panel.get_xticklabels()] == labels
        assert panel.get_xticks().tolist() == list(lines(study.main_sweep("duration"), ZERO_SHOT)) == [100, 200, 400]
    finally:
        plt.close(figure)
