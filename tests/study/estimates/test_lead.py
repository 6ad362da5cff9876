"""Share of a teacher's lead over the student alone that arrives in the student."""

import made_up_meter as meter
import numpy as np
import pytest
from scipy import stats

from hf_clip_kd.study.cells.cells import AXES, condition
from hf_clip_kd.study.cells.metrics import BITS, QUESTION_PROBE, VQA, ZERO_SHOT
from hf_clip_kd.study.cells.towers import own_record
from hf_clip_kd.study.estimates.lead import lead_over, share, share_of, shares
from hf_clip_kd.study.estimates.outcomes import estimate
from hf_clip_kd.study.report.meter_findings import about_lead
from hf_clip_kd.study.report.meter_tables import lead_table


def cells(scores):
    """Return a cell with each zero-shot accuracy, in per cent; its number is the seed."""
    return [{"axes": {"seed": seed}, "student": {"acc1": score / 100}} for seed, score in enumerate(scores)]


@pytest.mark.parametrize(
    "metric",
    [QUESTION_PROBE, pytest.param(VQA, marks=pytest.mark.slow), pytest.param(BITS, marks=pytest.mark.slow)],
    ids=lambda metric: metric.key,
)
def test_the_share_that_was_put_in_comes_out(metric):
    found = shares(meter.study(), metric)
    assert len(found) == 12  # Two objectives, three teachers, two readings.
    for key, estimated in found.items():
        axes = dict(zip(AXES, key, strict=True))
        if estimated is not None and axes["reading"] == "trained":
            assert estimated.value == pytest.approx(meter.SHARES[axes["objective"]], abs=0.12), key
            assert estimated.low < meter.SHARES[axes["objective"]] < estimated.high


def test_the_interval_is_that_of_the_delta_method():
    rng = np.random.default_rng(0)
    alone = 50 + rng.normal(0, 1, 8)
    student = 55 + rng.normal(0, 1, 8)
    teacher = np.full(8, 70.0)
    lead = estimate([cells(alone), cells(teacher)], ZERO_SHOT, [-1, 1])
    found = share(cells(student), cells(alone), cells(teacher), ZERO_SHOT, lead)
    ratio = (student - alone).mean() / (teacher - alone).mean()
    line = student - (1 - ratio) * alone - ratio * teacher
    reach = stats.t.ppf(0.975, 7) * stats.sem(line) / (teacher - alone).mean()
    assert found.value == pytest.approx(ratio)
    assert (found.high - ratio, ratio - found.low) == pytest.approx((reach, reach), rel=0.1)


@pytest.mark.slow
def test_the_interval_holds_the_luck_of_the_teachers_readings():
    """A share of one half lies in 95 of 100 intervals, and hardly in 50 without that luck."""
    rng = np.random.default_rng(0)
    axes = {"teacher": "L", "reading": "trained", "language_model": "tiny"}
    held = {True: 0, False: 0}
    for _ in range(200):
        alone = [cell | {"vqa": {"accuracy": (70 + rng.normal(0, 0.3)) / 100}} for cell in cells(range(5))]
        student = [cell | {"vqa": {"accuracy": (80 + rng.normal(0, 0.3)) / 100}} for cell in cells(range(5))]
        scores = (90 + rng.normal(0, 2, 5)) / 100
        towers = [
            {"kind": "teacher", "name": "L", "axes": axes | {"vlm_seed": seed}, "vqa": {"accuracy": score}}
            for seed, score in enumerate(scores)
        ]
        blind = {"teachers": {"L": {"vqa": {"accuracy": scores.mean()}}}, "towers": []}
        for known, record in ((True, blind | {"towers": towers}), (False, blind)):
            lead = lead_over(own_record(record, axes), alone, VQA)
            found = share_of(record, axes, student, alone, VQA, lead)
            held[known] += found.low < 0.5 < found.high
    assert 0.92 < held[True] / 200 < 0.98 and held[False] / 200 < 0.7


@pytest.mark.parametrize("teacher", [[50.0, 50.1, 49.9], [30.0, 30.0, 30.0]], ids=["equal", "worse"])
def test_without_a_lead_there_is_no_share(teacher):
    alone = cells([50.0, 51.0, 49.0])
    lead = estimate([alone, cells(teacher)], ZERO_SHOT, [-1, 1])
    assert share(cells([52.0, 53.0, 52.0]), alone, cells(teacher), ZERO_SHOT, lead) is None


@pytest.mark.slow
def test_a_second_reading_has_the_teacher_read_in_the_same_way():
    """The frozen reading sees less of student and teacher alike, so the share is the same."""
    found = shares(meter.study(), VQA)
    pair = [
        found[condition(cell)].value
        for cell in meter.study().cells
        if (cell["axes"]["teacher"], cell["axes"]["objective"], cell["axes"]["seed"]) == ("L", "clip_kd_patch", 0)
    ]
    assert pair == pytest.approx([0.5, 0.5], abs=0.05)


@pytest.mark.slow
def test_the_report_gives_the_shares_of_the_strongest_teacher():
    assert "The strongest teacher, `L`, leads the student alone." in about_lead(meter.study())
    assert lead_table(meter.study()).count("`frozen`") == 6
