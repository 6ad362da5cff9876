"""Numbers of a report for programs: those of objectives."""

import json

import made_up_objectives as made_up
import pytest

from hf_clip_kd.study.report.summary import summary

FEW = {"S": 50.0, "M": 60.0, "L": 70.0}


@pytest.mark.slow
def test_objectives_have_slopes_differences_and_shares_by_score():
    cells = made_up.students(range(2), noise=0.1, shares={"clip_kd": 0.25, "best": 0.9}, teachers=FEW)
    cells += [made_up.cell(None, "caption", seed, 50.0) for seed in range(2)]
    found = json.loads(json.dumps(summary(made_up.study(cells, teachers=FEW)), allow_nan=False))["objectives"]
    assert list(found) == ["VQA accuracy", "question probe", "zero-shot accuracy"]
    base, best = found["VQA accuracy"]["clip_kd"], found["VQA accuracy"]["best"]
    assert base["difference"] is None and base["slope"]["value"] == pytest.approx(0.25, abs=0.03)
    assert best["difference"]["value"] == pytest.approx(best["slope"]["value"] - base["slope"]["value"], abs=1e-5)
    assert best["share"]["value"] == pytest.approx(0.9, abs=0.03) and best["seconds"] == 100
    assert best["strongest"] == "L" and set(best) == set(found["VQA accuracy"]["caption"])
    caption = found["VQA accuracy"]["caption"]
    assert caption["slope"] is None and caption["share"]["value"] == pytest.approx(5 / 25, abs=0.03)
    assert best["equal_time"]["difference"] == best["difference"]  # Both take equally long.


def test_a_summary_says_what_the_numbers_of_objectives_depend_on():
    """Another run repeats a slope only over the same teachers. `XL` is larger, and no part of it."""
    cells = made_up.students(range(2), noise=0.1, shares={"clip_kd": 0.25, "best": 0.9})
    cells = [cell for cell in cells if (cell["axes"]["objective"], cell["axes"]["teacher"]) != ("best", "M")]
    fit = summary(made_up.study(cells))["objective_fits"]["VQA accuracy"]
    alike = ["L", "L2", "M", "S", "S2"]
    assert fit["base"] == "clip_kd" and fit["axes"]["duration"] == "x1" and "teacher" not in fit["axes"]
    assert fit["teachers"] == {"clip_kd": alike, "best": [name for name in alike if name != "M"]}


def test_one_objective_is_compared_with_none():
    cells = made_up.students(range(2), noise=0.1, shares={"clip_kd": 0.25}, teachers=FEW)
    assert summary(made_up.study(cells, teachers=FEW))["objectives"] == {}
