"""Estimates in sentences: units and directions of points and of bits."""

import made_up_meter as meter
import numpy as np
import pytest

from hf_clip_kd.study.cells.metrics import BITS, VQA, ZERO_SHOT
from hf_clip_kd.study.estimates.comparison import Score, compare
from hf_clip_kd.study.estimates.statistics import Estimate
from hf_clip_kd.study.report.findings import about_teachers, findings, verdict
from hf_clip_kd.study.report.sentences import against, moved, per, turned


def estimate(value, low, high, seeds=3):
    return Estimate(value, low, high, 0.01, seeds, error=np.nan, freedom=np.nan)


@pytest.mark.parametrize(
    ("found", "metric", "text"),
    [
        (estimate(0.6, 0.5, 0.7), VQA, "rises by 0.60 points [+0.50, +0.70]"),
        (estimate(-0.6, -0.7, -0.5), VQA, "falls by 0.60 points [−0.70, −0.50]"),
        (estimate(-0.02, -0.03, -0.01), BITS, "gets better by 0.020 bits [−0.030, −0.010]"),
        (estimate(0.02, 0.01, 0.03), BITS, "gets worse by 0.020 bits [+0.010, +0.030]"),
        (estimate(0.02, -0.01, 0.03), BITS, "shows no clear trend (+0.020 bits [−0.010, +0.030])"),
    ],
)
def test_a_trend_has_its_unit_and_direction(found, metric, text):
    assert moved(found, metric) == text


@pytest.mark.parametrize(
    ("found", "metric", "text"),
    [
        (estimate(1.2, 0.3, 2.1), VQA, "+1.2 points [+0.3, +2.1] (clear)"),
        (estimate(-0.12, -0.2, -0.04), BITS, "better by 0.12 bits [+0.04, +0.20] (clear)"),
        (estimate(0.12, 0.04, 0.2), BITS, "worse by 0.12 bits [−0.20, −0.04] (clear)"),
    ],
)
def test_a_difference_in_bits_says_which_is_better(found, metric, text):
    assert against(Score([1.0, 1.0], found, 0.01, metric, 1)) == text


def test_fewer_bits_of_a_teacher_are_a_step_up():
    assert per(BITS) == "each bit that a teacher has fewer" and per(VQA) == "each point that a teacher has more"
    assert turned(estimate(0.5, 0.4, 0.7)) == estimate(-0.5, -0.7, -0.4)


def test_the_verdict_in_bits_knows_that_fewer_are_better():
    zero_shot = estimate(0.5, 0.4, 0.6)
    gain, loss, flat = estimate(-0.02, -0.03, -0.01), estimate(0.02, 0.01, 0.03), estimate(0.0, -0.01, 0.01)
    said = [verdict({ZERO_SHOT: zero_shot, BITS: vqa}, BITS) for vqa in (gain, loss, flat)]
    assert said[0] == "The paper's finding does not appear: VQA gains, too."
    assert "worse in VQA" in said[1] and said[2].startswith("Whether the paper's finding appears is open")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["answer_bits", "curve_area", "question_probe"])
def test_the_meter_is_what_findings_call_vqa(name):
    study = meter.with_settings(meter.study(), meter=name)
    text = "\n".join(findings(study))
    assert study.meter.title in text and "VQA accuracy [" not in text
    assert compare(study, "objective").best(study.meter) == "clip_kd_patch"
    if name == "answer_bits":
        assert "has the best mean, better by" in text and "a larger number goes with fewer bits" in text


def test_better_teachers_are_judged_by_the_meter():
    text = about_teachers(meter.with_settings(meter.study(), meter="answer_bits"))
    assert "the student's VQA answer bits gets better by" in text and "VQA accuracy" not in text
