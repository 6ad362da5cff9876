"""Types of question are judged by what blind, the teachers and the oracle get."""

import made_up_meter as meter
import made_up_study
import pytest
from scipy import stats

from hf_clip_kd.study.cells.cells import read_study
from hf_clip_kd.study.estimates.grading import ALL, exceeds, grades, verdict
from hf_clip_kd.study.report.meter_findings import about_types
from hf_clip_kd.study.report.meter_tables import grading_table


@pytest.mark.parametrize(
    ("scores", "trained", "judged"),
    [
        ({"blind": 20, "teacher": 80, "oracle": 99}, [50, 80], "graded"),
        ({"blind": 33, "teacher": 35, "oracle": 99}, [35], "the strongest teacher is at chance"),
        ({"blind": 20, "teacher": 80, "oracle": 97.9}, [50, 80], "no ceiling"),
        ({"blind": 20, "teacher": 99, "oracle": 99}, [98.0, 99], "everybody is at the ceiling"),
        ({"blind": 20, "teacher": 99, "oracle": 99}, [97.9, 99], "graded"),
        ({"blind": 20, "teacher": 96, "oracle": 80}, [96], "no ceiling; everybody is at the ceiling; a tower exceeds"),
        ({"blind": 20, "teacher": 80}, [80], "graded"),
    ],
)
def test_the_verdict_follows_from_the_numbers(scores, trained, judged):
    assert verdict(scores, trained, questions=500).startswith(judged)


@pytest.mark.parametrize("questions", [50, 400])
@pytest.mark.parametrize(("share", "other"), [(60, 50), (52, 50), (100, 98), (100, 100), (100, 90)])
def test_more_than_chance_is_the_test_of_two_proportions(share, other, questions):
    """The chi-squared test of the table of right and wrong answers is the same."""
    right = [share * questions / 100, other * questions / 100]
    table = [right, [questions - value for value in right]]
    clear = right[0] != right[1] and stats.chi2_contingency(table, correction=False).pvalue < 0.05
    assert exceeds(share, other, questions) == clear


def test_several_towers_need_a_larger_distance():
    assert exceeds(57, 50, 400) and not exceeds(57, 50, 400, tests=20)


def test_a_study_grades_its_types():
    found = {grade.kind: grade for grade in grades(meter.study())}
    assert {kind: grade.verdict for kind, grade in found.items()} == {
        "color_at": "graded",
        "shape_at": "no ceiling",
        "texture_at": "the strongest teacher is at chance",
        "count": "everybody is at the ceiling",
        ALL: "",
    }
    assert found["texture_at"].scores == dict.fromkeys(("blind", "untrained", "alone", "teacher"), 34) | {
        "oracle": 100
    }
    assert list(found["color_at"].scores) == ["blind", "untrained", "alone", "teacher", "oracle"]
    assert found["color_at"].scores["teacher"] == 71 and found["color_at"].bits["teacher"] < 2


def test_a_type_that_is_left_out_is_named_with_its_reason():
    study = meter.study(ungraded=(("texture_at", "32 pixels are too few"),))
    assert "left out: 32 pixels are too few" in grading_table(study)
    assert "leave out `texture_at`" in about_types(study)


def test_an_old_study_knows_neither_types_nor_bits(tmp_path):
    study = read_study(made_up_study.write(tmp_path / "old", made_up_study.cells(seeds=(0,))))
    assert "(" not in grading_table(study) and {"blind", "teacher", "oracle"} <= set(grades(study)[0].scores)
