"""Slopes over teachers: three scores of theirs, size apart from strength, repeats of a strength."""

import made_up_meter as meter
import made_up_objectives as objectives
import numpy as np
import pytest
from scipy import stats

from hf_clip_kd.study.cells.metrics import QUESTION_PROBE, VQA, ZERO_SHOT
from hf_clip_kd.study.estimates.slopes import (
    equal_size,
    repeats,
    sizes,
    teachers_own_slope,
    teachers_slope,
    widened,
)
from hf_clip_kd.study.estimates.statistics import contrast, slope_weights
from hf_clip_kd.study.report.findings import about_teachers


def test_a_slope_over_each_of_the_teachers_scores_is_a_least_squares_fit():
    study = meter.study()
    sweep = study.main_sweep("teacher")
    for against in (ZERO_SHOT, VQA, QUESTION_PROBE):
        x = [study.teacher_score(teacher, against) for teacher in sweep.cells]
        y = [np.mean([QUESTION_PROBE.of(cell) for cell in cells]) for cells in sweep.cells.values()]
        fit = teachers_slope(study, QUESTION_PROBE, against)
        assert fit.value == pytest.approx(np.polyfit(x, y, 1)[0]) and fit.seeds == 3
    assert teachers_slope(study, QUESTION_PROBE, QUESTION_PROBE).value == pytest.approx(meter.SHARES["clip_kd"])
    assert teachers_own_slope(study, QUESTION_PROBE) == pytest.approx(0.5)


def test_teachers_of_equal_size_are_fitted_together():
    study = meter.study()
    assert sizes(study) == [("S", "M"), ("L",)] and equal_size(study) == ("S", "M")
    x = [study.teacher_score(teacher, ZERO_SHOT) for teacher in ("S", "M")]
    y = [np.mean([VQA.of(cell) for cell in study.main_sweep("teacher").cells[name]]) for name in ("S", "M")]
    fit = teachers_slope(study, VQA, among=("S", "M"))
    assert fit.value == pytest.approx((y[1] - y[0]) / (x[1] - x[0]))
    assert "Among `S`, `M`, which are equally large" in about_teachers(study)
    assert "3 teachers, one of each strength" in about_teachers(study)


def test_students_that_a_second_model_reads_are_fitted_over_what_it_reads_of_their_teachers():
    """It reads half of each lead, of teachers as of students. Over the first model's scores the slope would be 0.3."""
    two = {"S": 50.0, "L": 70.0}
    cells = objectives.students([0, 1], noise=0.0, shares={"dense": 0.6}, teachers=two, language_models=("a", "first"))
    study = objectives.study(cells, teachers=two)
    assert [sweep.fixed["language_model"] for sweep in study.sweeps("teacher")] == ["a", "first"]
    for number in (0, 1):
        assert teachers_slope(study, VQA, VQA, number=number).value == pytest.approx(0.6)


def test_the_named_base_objective_is_the_main_sweep():
    cells = objectives.students([0], shares={"clip_kd": 0.2, "dense": 0.6})
    fewer = [cell for cell in cells if (cell["axes"]["objective"], cell["axes"]["teacher"]) != ("dense", "XL")]
    assert objectives.study(fewer).main_sweep("teacher").fixed["objective"] == "clip_kd"
    assert objectives.study(fewer, base_objective="dense").main_sweep("teacher").fixed["objective"] == "dense"


X, Y = np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.0, 2.0, 1.0, 3.0])


def test_repeats_of_a_strength_widen_the_interval_by_hand():
    """The residuals are -1 and +1 within each strength, so their variance is 4 / 2. The weights are halves."""
    fit = contrast(np.repeat(Y, 3).reshape(4, 3, 1), slope_weights(X))
    found = widened(fit, X, Y, ["a", "a", "b", "b"])
    assert found.value == pytest.approx(1) and fit.low == pytest.approx(1)
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, 2) * 2**0.5)
    assert widened(fit, X, Y, ["a", "b", "c", "d"]) == fit


@pytest.mark.slow
def test_an_interval_over_repeats_holds_the_truth_as_often_as_it_says():
    """Teachers differ within a strength, and so do seeds: the interval of seeds alone is far too narrow."""
    held, narrow, rounds = 0, 0, 300
    for number in range(rounds):
        rng = np.random.default_rng(number)
        x = np.repeat([0.0, 1.0, 2.0], 2)
        scores = x[:, None, None] + rng.normal(0, 1, (6, 1, 1)) + rng.normal(0, 0.5, (6, 3, 1))
        fit = contrast(scores, slope_weights(x), n_resamples=300)
        wide = widened(fit, x, scores.mean(axis=(1, 2)), [str(place) for place in x])
        held += wide.low < 1 < wide.high
        narrow += fit.low < 1 < fit.high
    assert held / rounds > 0.92 and narrow / rounds < 0.8


def test_the_number_of_strengths_is_said():
    study = meter.with_settings(meter.study())
    study.record["teachers"]["M"] |= {"strength": "S"}
    assert str(repeats(study)).startswith("3 teachers of 2 strengths; intervals hold other teachers")
    assert teachers_slope(study, VQA).error > teachers_slope(meter.study(), VQA).error
