"""Each objective beside the base: shares, equal time and the goal, from numbers that were put in."""

import functools

import made_up_objectives as made_up
import numpy as np
import pytest

from hf_clip_kd.study.cells.metrics import QUESTION_PROBE, VQA, ZERO_SHOT
from hf_clip_kd.study.estimates.objective_results import GOAL, Judged, asked, results, untaught_share
from hf_clip_kd.study.estimates.objectives import groups
from hf_clip_kd.study.estimates.statistics import Estimate

SLOW = {"clip_kd": 0.25, "reader": 0.9}
FEW = {"S": 50.0, "M": 60.0, "L": 70.0}


@functools.cache
def study():
    """Return the base and the student alone at two lengths; `reader` takes 1.5 times as long as the base."""
    return made_up.study(made_up.students(range(3), noise=0.1, shares=SLOW, longer=("clip_kd", "alone")))


def by_name(metric=VQA):
    return {result.objective: result for result in results(study(), groups(study())[0], metric)}


def test_slopes_differences_and_shares_are_those_put_in():
    found = by_name()
    assert list(found) == ["clip_kd", "reader"]
    for name, share in SLOW.items():
        assert found[name].slope.value == pytest.approx(share, abs=0.02)
        assert found[name].strongest == "XL" and found[name].steps.share.value == pytest.approx(share, abs=0.02)
    assert found["clip_kd"].steps.difference is None and found["clip_kd"].steps.mark == ""
    assert found["reader"].steps.difference.value == pytest.approx(0.65, abs=0.02)
    assert found["reader"].steps.mark == "▲" and found["reader"].steps.reaches_goal
    assert (found["clip_kd"].seconds, found["reader"].seconds) == (100, 150)


def test_at_equal_time_others_have_trained_longer():
    """A doubling adds 3 points to all. The base has 1.5 times its steps then, the student alone 150 of 80 seconds."""
    found = by_name()["reader"].time
    alone = made_up.ALONE + made_up.DOUBLING * np.log2(150 / 80)
    student = made_up.ALONE + 0.9 * (80 - made_up.ALONE)
    assert found.share.value == pytest.approx((student - alone) / (80 - alone), abs=0.02)
    # Time adds the same for all teachers, so the difference of the slopes stays.
    assert found.difference.value == pytest.approx(0.65, abs=0.02) and found.mark == "▲"


def test_without_longer_trainings_a_slower_objective_has_no_numbers_at_equal_time():
    cells = made_up.students(range(2), noise=0.1, shares=SLOW)
    short = made_up.study(cells)
    found = {result.objective: result for result in results(short, groups(short)[0], ZERO_SHOT)}
    assert found["reader"].time.difference is None and found["reader"].time.share is None


def test_scores_of_the_comparison():
    models, others = {"first": {}, "second": {}}, ["question probe", "zero-shot accuracy"]
    cells = made_up.students([0, 1], shares=SLOW, teachers=FEW, language_models=("first", "second"))
    both = made_up.study(cells, teachers=FEW, language_models=models)
    assert [title for title, *_ in asked(both)] == ["VQA accuracy, first", "VQA accuracy, second", *others]
    cells = made_up.students([0, 1], shares=SLOW, teachers=FEW, language_models=("first",))
    fewer = made_up.study(cells, teachers=FEW, language_models=models)  # A second run of it may have fewer cells.
    assert [title for title, *_ in asked(fewer)] == ["VQA accuracy, first", *others]
    probed = made_up.study(made_up.students([0, 1], shares=SLOW, teachers=FEW), teachers=FEW, meter="question_probe")
    assert [title for title, *_ in asked(probed)] == ["question probe", "zero-shot accuracy"]
    assert asked(made_up.study(made_up.students([0], shares={"clip_kd": 0.25}))) == []


def test_a_teacher_without_texts_has_no_zero_shot_slope():
    found = made_up.study(made_up.students([0, 1], shares=SLOW, teachers=FEW), teachers=FEW)
    for teacher in found.record["teachers"].values():
        del teacher["student"]
    for tower in found.record["towers"]:
        del tower["student"]
    assert [metric for *_, metric in asked(found)] == [VQA, QUESTION_PROBE]


def test_an_objective_without_a_teacher_reaches_a_share_too():
    cells = made_up.students(range(3), noise=0.0, shares=SLOW)
    cells += [made_up.cell(None, "caption", seed, made_up.ALONE + 7) for seed in range(3)]
    found = made_up.study(cells)
    (group,) = groups(found)
    share = untaught_share(found, group, group.untaught["caption"], VQA)
    assert list(group.untaught) == ["alone", "caption"] and share.value == pytest.approx(7 / 35)


@pytest.mark.parametrize(
    ("adjusted", "value", "seeds", "share", "mark", "reached"),
    [
        (0.01, 0.3, 5, GOAL, "▲", True),
        (0.01, 0.3, 5, GOAL - 0.01, "▲", False),
        (0.2, 0.3, 5, 0.95, "", False),
        (0.01, -0.3, 5, 0.95, "▼", False),
        (0.01, 0.3, 1, 0.95, "", False),
    ],
)
def test_the_goal_needs_a_clear_slope_and_the_share(adjusted, value, seeds, share, mark, reached):
    gap = Estimate(value, value - 0.1, value + 0.1, adjusted, seeds)
    judged = Judged(gap, Estimate(share, share - 0.1, share + 0.1, np.nan, seeds), adjusted)
    assert (judged.mark, judged.reaches_goal) == (mark, reached)
