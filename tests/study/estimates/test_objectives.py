"""Slopes of several objectives and their differences, against least squares and Student's t by numpy and scipy."""

import made_up_objectives as made_up
import numpy as np
import pytest
from scipy import stats

from hf_clip_kd.study.cells.metrics import QUESTION_PROBE, VQA, ZERO_SHOT
from hf_clip_kd.study.estimates.objectives import difference, groups, line, slope

EQUAL = {"S": 50.0, "M": 60.0, "L": 70.0}


def per_seed(study, objective, teachers, metric):
    """Return the slope of each seed by numpy's own least squares."""
    found = []
    for seed in sorted({cell["axes"]["seed"] for cell in study.cells}):
        scores = {
            cell["axes"]["teacher"]: metric.of(cell)
            for cell in study.cells
            if (cell["axes"]["objective"], cell["axes"]["seed"]) == (objective, seed)
        }
        places = [study.teacher_score(name, metric) for name in teachers]
        found.append(np.polyfit(places, [scores[name] for name in teachers], 1)[0])
    return np.array(found)


@pytest.fixture(scope="module")
def noisy():
    cells = made_up.students(range(8), noise=2.0, shares={"clip_kd": 0.25, "dense": 0.6}, teachers=EQUAL)
    return made_up.study(cells, teachers=EQUAL)


@pytest.mark.parametrize("metric", [VQA, QUESTION_PROBE, ZERO_SHOT], ids=lambda metric: metric.key)
def test_a_slope_is_that_of_numpy_and_its_interval_that_of_student(noisy, metric):
    (group,) = groups(noisy)
    fit = slope(noisy, line(noisy, group, group.taught["dense"], metric), metric)
    slopes = per_seed(noisy, "dense", EQUAL, metric)
    assert fit.value == pytest.approx(slopes.mean()) and fit.seeds == 8
    assert fit.high - fit.value == pytest.approx(stats.t.ppf(0.975, 7) * stats.sem(slopes), rel=0.1)


def test_a_difference_is_paired_by_seed(noisy):
    (group,) = groups(noisy)
    fit = difference(noisy, group, line(noisy, group, group.taught["dense"], VQA), group.taught["clip_kd"], VQA)
    gaps = per_seed(noisy, "dense", EQUAL, VQA) - per_seed(noisy, "clip_kd", EQUAL, VQA)
    assert fit.value == pytest.approx(gaps.mean())
    assert fit.high - fit.value == pytest.approx(stats.t.ppf(0.975, 7) * stats.sem(gaps), rel=0.1)


def test_the_base_objective_and_the_weakest_teacher_come_first():
    shares = {"dense": 0.6, "clip_kd": 0.25}
    cells = made_up.students([0, 1], shares=shares)
    (group,) = groups(made_up.study(cells))
    assert list(group.taught) == ["clip_kd", "dense"] and list(group.untaught) == ["alone"]
    assert list(group.taught["dense"]) == ["S", "S2", "M", "L", "L2", "XL"]
    (group,) = groups(made_up.study(cells, base_objective="dense"))
    assert list(group.taught) == ["dense", "clip_kd"]


def test_without_clip_kd_the_base_has_most_cells():
    cells = made_up.students([0], shares={"a": 0.2, "b": 0.4})
    assert made_up.study(cells[:-1]).base == "a" and made_up.study(cells[:1] + cells[2:]).base == "b"
    assert made_up.study(cells, base_objective="b").base == "b"


def test_teachers_of_equal_size_are_fitted_and_all_if_no_three_are_alike():
    study = made_up.study(made_up.students([0, 1]))
    (group,) = groups(study)
    assert line(study, group, group.taught["dense"], VQA).teachers == ("S", "S2", "M", "L", "L2")
    three = {name: group.taught["dense"][name] for name in ("S", "L", "XL")}
    assert line(study, group, three, VQA).teachers == ("S", "L", "XL")
    assert line(study, group, {name: three[name] for name in ("L", "XL")}, VQA) is None


def test_the_base_is_fitted_to_the_teachers_that_the_objective_has():
    """The base brings more from L to XL than from S to L. A fit to its equally large teachers is another number."""
    cells = made_up.students([0, 1], noise=0.0)
    fewer = ("S", "L", "XL")
    for cell in cells:
        if (cell["axes"]["objective"], cell["axes"]["teacher"]) == ("clip_kd", "XL"):
            cell["vqa"] = {"accuracy": 0.60}
    kept = [cell for cell in cells if cell["axes"]["objective"] != "dense" or cell["axes"]["teacher"] in fewer]
    study = made_up.study(kept)
    (group,) = groups(study)
    fit = difference(study, group, line(study, group, group.taught["dense"], VQA), group.taught["clip_kd"], VQA)
    from_s, from_l = (made_up.ALONE + 0.25 * (own - made_up.ALONE) for own in (50, 70))
    assert fit.value == pytest.approx(0.6 - np.polyfit([50, 70, 80], [from_s, from_l, 60], 1)[0])


def test_lifted_teachers_stand_beside_their_origins():
    """Their own scores are better than those of their origins. Each objective is fitted over its own teachers."""
    own = EQUAL | {"S_up": 58.0, "M_up": 66.0, "L_up": 78.0}
    cells = made_up.students(range(3), noise=0.0, shares={"clip_kd": 0.25}, teachers=EQUAL)
    lifted = {name: own[name] for name in ("S_up", "M_up", "L_up")}
    more = made_up.students(range(3), noise=0.0, shares={"lifted": 0.5}, teachers=lifted)
    cells += [cell for cell in more if cell["axes"]["teacher"] is not None]
    study = made_up.study(cells, teachers=own, lifted={f"{name}_up": name for name in EQUAL})
    (group,) = groups(study)
    assert study.lifted_from("M_up") == "M" and study.lifted_from("M") == "M"
    fit = difference(study, group, line(study, group, group.taught["lifted"], VQA), group.taught["clip_kd"], VQA)
    assert fit.value == pytest.approx(0.25)


def test_a_teacher_stands_beside_itself_also_where_the_objective_has_its_lifted_form():
    """The students of the lifted teacher are far off the line. The base objective has nobody to set beside them."""
    own = EQUAL | {"M_up": 66.0}
    cells = made_up.students(range(3), noise=0.0, shares={"clip_kd": 0.25, "dense": 0.5}, teachers=EQUAL)
    cells += [made_up.cell("M_up", "dense", seed, 80.0) for seed in range(3)]
    study = made_up.study(cells, teachers=own, lifted={"M_up": "M"})
    (group,) = groups(study)
    fitted = line(study, group, group.taught["dense"], VQA)
    assert set(fitted.teachers) == {*EQUAL, "M_up"}
    assert difference(study, group, fitted, group.taught["clip_kd"], VQA).value == pytest.approx(0.25)


def test_a_lifted_teacher_stands_beside_itself_where_the_base_has_it():
    """The base learns from the plain teachers, too: from these nothing, and half as much as the other from lifted."""
    own = EQUAL | {"S_up": 58.0, "M_up": 66.0, "L_up": 78.0}
    lifted = {name: own[name] for name in ("S_up", "M_up", "L_up")}
    cells = made_up.students(range(3), noise=0.0, shares={"clip_kd": 0.0}, teachers=EQUAL)
    more = made_up.students(range(3), noise=0.0, shares={"clip_kd": 0.25, "lifted": 0.5}, teachers=lifted)
    cells += [cell for cell in more if cell["axes"]["teacher"] is not None]
    study = made_up.study(cells, teachers=own, lifted={f"{name}_up": name for name in EQUAL})
    (group,) = groups(study)
    fit = difference(study, group, line(study, group, group.taught["lifted"], VQA), group.taught["clip_kd"], VQA)
    assert fit.value == pytest.approx(0.25)


def test_repeats_of_a_strength_widen_a_difference_by_hand():
    """All seeds are alike. The gaps lie 1 above and 1 below their line within each strength, over places 0 and 10."""
    gaps = {"S": -1.0, "S2": 1.0, "L": 9.0, "L2": 11.0}
    own = {"S": 50.0, "S2": 50.0, "L": 60.0, "L2": 60.0}
    cells = []
    for seed in range(2):
        for teacher, gap in gaps.items():
            cells.append(made_up.cell(teacher, "clip_kd", seed, 45.0))
            cells.append(made_up.cell(teacher, "dense", seed, 45.0 + gap))
    study = made_up.study(cells, teachers=own)
    (group,) = groups(study)
    fit = difference(study, group, line(study, group, group.taught["dense"], VQA), group.taught["clip_kd"], VQA)
    # Slope weights are +-1/20, and the variance within strengths is 4 / 2.
    assert fit.value == pytest.approx(1.0) and fit.error == pytest.approx((2 * 4 / 20**2) ** 0.5)
    assert fit.high - fit.value == pytest.approx(stats.t.ppf(0.975, 2) * fit.error)


def test_a_second_language_model_is_a_group_of_its_own():
    study = made_up.study(made_up.students([0, 1], noise=0.0, language_models=("first", "second")))
    first, second = groups(study)
    assert (first.axes["language_model"], second.axes["language_model"]) == ("first", "second")
    # The second reads half of a lead of teachers and students alike, so the slope stays.
    assert study.own_score("L", second.axes, VQA) == pytest.approx(45 + 0.5 * 25)
    for group in (first, second):
        fit = slope(study, line(study, group, group.taught["dense"], VQA), VQA)
        assert fit.value == pytest.approx(0.6)


def test_a_study_of_one_objective_compares_none():
    assert groups(made_up.study(made_up.students([0], shares={"clip_kd": 0.25}))) == ()
    one_teacher = made_up.students([0], teachers={"L": 70.0})
    assert groups(made_up.study(one_teacher)) == ()
