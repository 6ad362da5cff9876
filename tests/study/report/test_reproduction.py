"""A study that is run again: what agrees is reproduced, what does not is named."""

import json

import made_up_study as made_up
import numpy as np
import pytest
from scipy import stats

from hf_clip_kd.study.cells.cells import read_study
from hf_clip_kd.study.estimates.statistics import Estimate
from hf_clip_kd.study.report.reproduction import (
    Again,
    differences_again,
    means_again,
    shares_again,
    trends_again,
    write_reproduction,
)
from hf_clip_kd.study.report.summary import summary
from recipes import study_compare


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two runs of one made-up study, and one with a single seed."""
    root = tmp_path_factory.mktemp("studies")
    for name, seeds in (("first", (0, 1, 2)), ("second", (3, 4, 5)), ("single", (6,))):
        made_up.write(root / name, made_up.cells(seeds, questions=100))
        (root / name / "summary.json").write_text(json.dumps(summary(read_study(root / name))))
    return root


@pytest.fixture
def summaries(folders):
    return [json.loads((folders / name / "summary.json").read_text()) for name in ("first", "second")]


def test_equal_worlds_reproduce_each_other(folders, summaries, capsys):
    found = [*trends_again(*summaries), *differences_again(*summaries), *means_again(*summaries)]
    assert len(found) > 60 and np.mean([number.within for number in found]) > 0.9
    assert not any(number.opposite for number in found)
    path = study_compare.main([str(folders / "first"), str(folders / "second")])
    text = path.read_text()
    assert path == folders / "first/reproduction.md" and text in capsys.readouterr().out
    slopes = trends_again(*summaries)
    assert f"Slopes: {sum(slope.within for slope in slopes)} of {len(slopes)} reproduced" in text
    assert all(f"`{slope.what}`" in text for slope in slopes)


def test_bits_and_areas_are_compared_too(tmp_path):
    """Bits that rise by 0.5 from teacher to teacher in both runs, in each question."""
    summaries = []
    for seeds in ((0, 1), (2, 3)):
        cells = [made_up.cell(t, "clip_kd", "x1", "plain", s, questions=20) for s in seeds for t in "SL"]
        for cell in cells:
            rise = 0.5 * "SL".index(cell["axes"]["teacher"])
            bits = [rise + 0.1 * question + 0.01 * cell["axes"]["seed"] for question in range(20)]
            cell |= {"vqa_bits": bits, "vqa_images": [question // 4 for question in range(20)]}
            cell["vqa"] |= {"answer_bits": float(np.mean(bits))}
            cell["curve"] = {"area": {"accuracy": cell["vqa"]["accuracy"], "answer_bits": float(np.mean(bits))}}
        summaries.append(summary(read_study(made_up.write(tmp_path / str(seeds[0]), cells))))
    means = {again.what: again for again in means_again(*summaries)}
    assert means["teacher: L, VQA answer bits"].first.value == pytest.approx(0.95 + 0.5 + 0.005)
    assert "teacher: L, VQA curve area" in means
    bits = summaries[0]["comparisons"]["teacher"]["L"]["VQA answer bits"]
    assert bits["difference"]["value"] == pytest.approx(0.5) and bits["difference"]["low"] == pytest.approx(0.5)
    (again,) = [found for found in differences_again(*summaries) if found.what == "teacher: L, VQA answer bits"]
    assert again.within and again.reach == 0


def test_a_number_that_moved_is_named(folders, summaries):
    first, second = summaries
    moved = second["teacher_slopes"]["VQA accuracy"]
    moved |= {"value": 9.0, "low": 8.9, "high": 9.1}
    (moved_slope,) = [again for again in trends_again(first, second) if not again.within and "teacher" in again.what]
    assert moved_slope.what == "VQA accuracy, for each point of the teacher" and moved_slope.second.value == 9
    (folders / "moved").mkdir(exist_ok=True)
    (folders / "moved/summary.json").write_text(json.dumps(second))
    _, text = write_reproduction(folders / "first", folders / "moved")
    assert moved_slope.what in text.split("## What fell outside")[1].split("##")[0]


def test_reach_is_that_of_both_and_opposite_needs_both_clear():
    first, second = Estimate(1.0, 0.6, 1.4, 0.01, 3), Estimate(0.6, 0.3, 0.9, 0.01, 3)
    summaries = [{"teacher_slopes": {"VQA accuracy": vars(e)}, "duration_doublings": {}} for e in (first, second)]
    (again,) = trends_again(*summaries)
    assert again.reach == pytest.approx(0.5) and again.within and not again.opposite
    falls = Estimate(-1.0, -1.4, -0.6, 0.01, 3)
    assert Again("x", first, falls, 0.5).opposite and not Again("x", first, falls, 0.5).within
    assert not Again("x", first, Estimate(-1.0, -2.4, 0.4, 0.1, 3), 2.0).opposite


def test_means_are_compared_as_by_welch(summaries):
    """Scipy's test agrees: within the interval is the same as a p-value above 0.05."""
    rows = [summary["comparisons"]["teacher"]["L"]["zero-shot accuracy"]["seeds"] for summary in summaries]
    (again,) = [mean for mean in means_again(*summaries) if mean.what == "teacher: L, zero-shot accuracy"]
    p_value = stats.ttest_ind(*rows, equal_var=False).pvalue
    assert again.within == (p_value > 0.05) and again.first.value == pytest.approx(np.mean(rows[0]))


def test_a_score_in_two_tables_counts_once_and_one_that_never_moves_agrees_with_itself():
    row = {"VQA accuracy": {"seeds": [1.0, 1.0], "difference": None}}
    summaries = [{"comparisons": {"teacher": {"L": row}, "objective": {"clip_kd": row}}}] * 2
    (again,) = means_again(*summaries)
    assert again.what == "teacher: L, VQA accuracy" and again.reach == 0 and again.within
    assert again.first.low == again.first.high == again.first.value == 1


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("first", "first", r"share the seeds \[0, 1, 2\]"),
        ("first", "nowhere", "holds no `summary.json`"),
        ("first", "single", "no number in common"),
    ],
)
def test_what_cannot_be_compared_is_said(folders, first, second, message):
    with pytest.raises(ValueError, match=message):
        write_reproduction(folders / first, folders / second)


def test_tables_that_hold_other_values_are_not_compared():
    """A second run of fewer cells may compare the objectives at another training."""
    row = {"zero-shot accuracy": {"seeds": [1.0, 2.0], "difference": None}}
    first, longer = ({"comparisons": {"objective": {"fd": row}}, "held": {"objective": held}} for held in ("x1", "x4"))
    assert len(means_again(first, first)) == 1 and means_again(first, longer) == []
    gain = {"zero-shot accuracy": vars(Estimate(1.0, 0.6, 1.4, 0.01, 3))}
    trends = {"teacher_slopes": {}, "duration_doublings": gain}
    taught, alone = (trends | {"held": {"duration": {"objective": name}}} for name in ("clip_kd", "alone"))
    assert len(trends_again(taught, taught)) == 1 and trends_again(taught, alone) == []


def estimate(value):
    return vars(Estimate(value, value - 0.1, value + 0.1, 0.01, 5, 0.05, 4))


def run_of_objectives(value, *, strongest="X", base="clip_kd", teachers=("S", "L", "X"), duration="x4", fits=True):
    """Return the part of a summary that has objectives. Without `fits` it is one of an earlier version."""
    number = estimate(value)
    judged = {"difference": number, "share": None}
    dense = {"slope": number, "strongest": strongest, **judged}
    dense["equal_time"] = {"difference": None, "share": number}
    plain = dense | {"difference": None}
    found = {"teacher_slopes": {}, "duration_doublings": {}}
    found["objectives"] = {"VQA accuracy": {base: plain, "dense": dense}}
    if fits:
        fit = {"axes": {"duration": duration}, "base": base}
        fit["teachers"] = {base: ["S", "L", "X"], "dense": list(teachers)}
        found["objective_fits"] = {"VQA accuracy": fit}
    return found


def names(found):
    return [again.what.removeprefix("VQA accuracy, ") for again in found]


def test_numbers_of_objectives_that_both_runs_have_are_compared():
    found = trends_again(run_of_objectives(0.4), run_of_objectives(0.5))
    assert names(found) == ["clip_kd: slope", "dense: slope", "dense: difference"]
    assert found[0].reach == pytest.approx(0.1 * 2**0.5) and found[0].within
    found = shares_again(run_of_objectives(0.4), run_of_objectives(0.5))
    assert names(found) == ["clip_kd: share of X, equal time"]  # The same number of another objective counts once.
    old = {"teacher_slopes": {}, "duration_doublings": {}}  # A summary from before objectives were compared.
    for compare in (trends_again, shares_again):
        assert compare(run_of_objectives(0.4), old) == compare(old, run_of_objectives(0.4)) == []
        other = run_of_objectives(0.5) | {"objectives": {"VQA accuracy": {"other": {}}}}
        assert compare(run_of_objectives(0.4), other) == []


@pytest.mark.parametrize(
    ("changes", "slopes", "shares"),
    [
        ({"strongest": "X2"}, ["clip_kd: slope", "dense: slope", "dense: difference"], 0),
        ({"teachers": ("S", "X")}, ["clip_kd: slope"], 1),
        ({"base": "crd"}, ["dense: slope"], 1),
        ({"duration": "x1"}, [], 0),
        ({"fits": False}, [], 1),
    ],
    ids=["strongest", "teachers", "base", "axes", "earlier_version"],
)
def test_objectives_of_other_teachers_or_another_base_are_not_compared(changes, slopes, shares):
    """A share of the lead of one teacher says nothing of that of another. Nor do slopes over other teachers."""
    runs = run_of_objectives(0.4), run_of_objectives(0.5, **changes)
    assert names(trends_again(*runs)) == names(trends_again(*reversed(runs))) == slopes
    assert len(shares_again(*runs)) == len(shares_again(*reversed(runs))) == shares


def test_the_share_without_a_teacher_is_of_the_lead_of_the_base_objective():
    first, second, other = (run_of_objectives(0.4, strongest=name) for name in ("X", "X", "X2"))
    for run in (first, second, other):
        run["objectives"]["VQA accuracy"]["dense"] |= {"strongest": None, "share": estimate(0.2)}
    assert "dense: share of X" in names(shares_again(first, second)) and shares_again(first, other) == []


def test_shares_of_a_teacher_are_compared_by_the_name_of_the_students():
    first, second = ({"leads": {"VQA accuracy": {"X, fd": estimate(value)}}} for value in (0.4, 0.5))
    second["leads"]["VQA accuracy"]["X2, fd"] = estimate(0.9)
    assert names(shares_again(first, second)) == ["X, fd: share"]


def test_slopes_over_other_conditions_and_differences_to_another_first_row_are_not_compared(summaries):
    first, second = summaries
    all_slopes = len(trends_again(first, second))
    del second["comparisons"]["teacher"]["M"]
    over_teachers = sum("teacher" in again.what for again in trends_again(first, first))
    assert over_teachers and len(trends_again(first, second)) == all_slopes - over_teachers
    rows = second["comparisons"]["objective"]
    assert any(again.what.startswith("objective: fd") for again in differences_again(first, second))
    rows["no teacher"] = rows.pop("no teacher")  # Another row is the first, and all others are compared with it.
    assert not any(again.what.startswith("objective: ") for again in differences_again(first, second))
