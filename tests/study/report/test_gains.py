"""Gains over the student alone, from numbers that were put in."""

import made_up_objectives as made_up

from hf_clip_kd.study.cells.metrics import VQA
from hf_clip_kd.study.estimates.comparison import NO_TEACHER
from hf_clip_kd.study.estimates.objectives import groups
from hf_clip_kd.study.report.gains import gains

FEW = {"S": 50.0, "M": 60.0, "L": 70.0}


def test_gains_are_over_the_student_alone_of_the_same_length():
    longer = ("clip_kd", "alone")
    cells = made_up.students([0, 1], noise=0.0, shares={"clip_kd": 0.25, "best": 0.9}, teachers=FEW, longer=longer)
    found = made_up.study(cells, teachers=FEW)
    points = gains(found, groups(found)[0], VQA)
    lead = 70 - made_up.ALONE
    shown = {name: [(point.seconds, round(point.gain.value, 6)) for point in row] for name, row in points.items()}
    assert shown == {
        NO_TEACHER: [(80, 0), (160, 3)],
        "clip_kd": [(100, 0.25 * lead), (200, 0.25 * lead + 3)],
        "best": [(100, 0.9 * lead)],
    }
