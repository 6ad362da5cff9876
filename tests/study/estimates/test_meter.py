"""The meter's own table: noise, agreement, the ladder and cost of each way to measure."""

import copy
import dataclasses

import made_up_meter as meter
import made_up_study
import numpy as np
import pytest
from scipy import stats

from hf_clip_kd.study.cells.cells import read_study
from hf_clip_kd.study.estimates.meter import (
    cheapest,
    meter_rows,
    paired_deviation,
    pooled_deviation,
    used,
    whole_ladder,
)
from hf_clip_kd.study.report.meter_findings import about_meter
from hf_clip_kd.study.report.meter_tables import MARK, meter_table, ten_times


@pytest.fixture(scope="module")
def rows():
    return {(row.gauge.title, row.reading): row for row in meter_rows(meter.study())}


def test_every_metric_has_a_row_for_each_reading(rows):
    steps = [f"{name} at {step} steps" for name in ("VQA accuracy", "VQA answer bits") for step in meter.STEPS]
    read = [*steps, "VQA curve area", "VQA curve area, bits"]
    assert set(rows) == {(title, reading) for title in read for reading in meter.READINGS} | {("question probe", None)}


def test_the_ladder_is_kept_where_it_is(rows):
    """Alone, with the second VLM seed, is far too good at 100 steps of the first reading."""
    assert whole_ladder(meter.study()) == ("untrained", "alone", "S", "M", "L")
    for name in ("VQA accuracy", "VQA answer bits"):
        kept = [(rows[f"{name} at {step} steps", "trained"].kept) for step in meter.STEPS]
        assert kept == [3, 6, 6]
        assert rows[f"{name} at 100 steps", "frozen"].kept == rows[f"{name} at 100 steps", "frozen"].cases == 6
    probe = rows["question probe", None]
    assert probe.rungs == ("alone", "S", "M", "L") and (probe.kept, probe.cases) == (6, 6)


def test_a_student_alone_that_passes_the_weakest_teacher_is_no_rung():
    study = meter.study()
    strong = dataclasses.replace(study, cells=copy.deepcopy(study.cells))
    for cell in strong.cells:
        if cell["axes"]["teacher"] is None:
            cell["student"]["acc1"] = 0.99
    assert whole_ladder(strong) == ("untrained", "S", "M", "L")
    rows = {(row.gauge.title, row.reading): row for row in meter_rows(strong)}
    assert rows["VQA accuracy at 100 steps", "trained"].rungs == ("untrained", "S", "M", "L")
    assert rows["VQA accuracy at 100 steps", "trained"].kept == 6  # Alone was what broke the order.


def test_the_cheapest_that_keeps_it_is_marked_and_said():
    best = cheapest(meter.study())
    assert (best.reading, best.seconds, best.kept) == ("frozen", 10, 6)
    assert meter_table(meter.study()).count(MARK) == 1
    text = about_meter(meter.study())
    assert "untrained < alone < S < M < L in each of 6 cases" in text and "(frozen): 10 seconds" in text
    assert "The findings use VQA accuracy at 1000 steps (trained)" in text
    assert ten_times(meter.study()) == "(ten times as many as 100)"


def test_a_cheap_probe_does_not_hide_the_cheapest_that_a_language_model_reads():
    study = meter.study()
    cheap = dataclasses.replace(study, record=copy.deepcopy(study.record), runs=copy.deepcopy(study.runs))
    for run in [*cheap.runs, *cheap.record["towers"], *cheap.record["teachers"].values()]:
        run["seconds"] = run.get("seconds", {}) | {"evaluate": 1.0}
        if run.get("name") == "untrained":
            run["representation"] = {"vqa": {"question_probe": 0.1}}
    assert cheapest(cheap).gauge.title == "question probe"
    assert cheapest(cheap, read=True).gauge.title == cheapest(study).gauge.title == "VQA accuracy at 100 steps"
    assert meter_table(cheap).count(MARK) == 2
    text = about_meter(cheap)
    assert "is question probe: 1 seconds" in text and "a language model reads it is VQA" in text


@pytest.mark.parametrize(
    ("name", "title"),
    [("answer_bits", "VQA answer bits at 1000 steps"), ("curve_area", "VQA curve area"), ("question_probe", None)],
)
def test_the_meter_that_the_study_names_is_the_one_used(name, title):
    row = used(meter.with_settings(meter.study(), meter=name))
    assert row.gauge.title == (title or "question probe") and row.reading == ("trained" if title else None)


def test_deviations_are_pooled_over_towers(rows):
    """The pooled variance of pairs is the mean of half the squared distance. At equal seeds it is theirs alone."""
    study = meter.study()
    runs = [run for run in [*study.runs, *study.record["towers"]] if run["axes"]["reading"] == "trained"]
    pairs = {}
    for run in runs:
        if run.get("name") != "blind":
            key = run.get("name") or (run["axes"]["teacher"], run["axes"]["objective"], run["axes"]["seed"])
            pairs.setdefault(key, []).append(100 * run["vqa"]["accuracy"])
    distances = [first - second for first, second in pairs.values()]
    row = rows["VQA accuracy at 1000 steps", "trained"]
    assert row.vlm_deviation == pytest.approx(np.mean(np.square(distances) / 2) ** 0.5)
    assert row.paired_deviation == pytest.approx((np.var(distances, ddof=1) / 2) ** 0.5)
    assert rows["question probe", None].paired_deviation is None
    assert pooled_deviation([[1, 3], [5], [0, 0, 3]]) == pytest.approx(((2 + 2 * 3) / 3) ** 0.5)
    assert pooled_deviation([[1], []]) is None


def test_what_a_vlm_seed_does_to_all_towers_alike_is_left_out():
    """Centred by rows and columns, the table `1 3 / 2 6` is `0.5 -0.5 / -0.5 0.5`, of one degree of freedom."""
    table = {"first": (1, 3), "second": (2, 6)}
    measured = [(tower, seed, score) for tower, scores in table.items() for seed, score in enumerate(scores)]
    assert paired_deviation(measured) == pytest.approx(1)
    alike = [(tower, seed, height + 5 * seed) for height, tower in enumerate("abc") for seed in range(4)]
    assert paired_deviation(alike[:-1]) == pytest.approx(0, abs=1e-9)  # A measurement may be missing.
    assert paired_deviation(alike[:4]) is None and paired_deviation(alike[::4]) is None


def test_seeds_of_students_are_compared_over_the_mean_of_their_vlm_seeds(rows):
    """The probe sees the skill alone: its seeds are a point apart in two of four types."""
    assert rows["question probe", None].student_deviation == pytest.approx(0.5)
    assert rows["question probe", None].vlm_deviation is None


def test_agreement_is_spearmans_with_the_last_step(rows):
    study = meter.study()
    towers = {}
    for run in [*study.runs, *study.record["towers"]]:
        if run["axes"]["reading"] == "trained" and run.get("name") != "blind":
            key = run.get("name") or (run["axes"]["teacher"], run["axes"]["objective"])
            towers.setdefault(key, []).append(run["curve"]["accuracy"])
    means = np.array([np.mean(curves, axis=0) for curves in towers.values()])
    expected = stats.spearmanr(means[:, 0], means[:, 2]).statistic
    assert rows["VQA accuracy at 100 steps", "trained"].correlation == pytest.approx(expected) and expected < 1
    assert rows["VQA accuracy at 1000 steps", "trained"].correlation == pytest.approx(1)


def test_the_span_is_from_untrained_to_the_strongest_teacher(rows):
    """Two of four types follow the skill, from 0.2 to 0.7. The span in bits has the sign of its worth."""
    assert rows["VQA accuracy at 1000 steps", "trained"].span == pytest.approx(25, abs=1)
    assert rows["VQA answer bits at 1000 steps", "trained"].span > 0.5


def test_an_old_study_has_two_rows_without_repeats(tmp_path):
    study = read_study(made_up_study.write(tmp_path / "old", made_up_study.cells()))
    (row,) = meter_rows(study)
    assert row.rungs == ("alone", "S", "M", "L") and row.cases == 3 and row.vlm_deviation is row.seconds is None
    assert "No meter of the table" in about_meter(study)
