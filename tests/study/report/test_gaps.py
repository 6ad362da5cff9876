"""The difference of a second teacher under each condition, and how much of it the condition brings."""

import re
from statistics import mean

import made_up_study as made_up
import pytest

from hf_clip_kd.study.cells.cells import read_study
from hf_clip_kd.study.report.gaps import gap_table
from hf_clip_kd.study.report.report import write_report

LOST = 0.05  # Zero-shot accuracy that the second teacher's students lose under the defect.


def cells():
    found = []
    for objective in ("clip_kd", "fd"):
        for teacher in ("S", "L"):
            for seed in range(3):
                cell = made_up.cell(teacher, objective, "x1", "plain", seed)
                cell["student"]["acc1"] -= LOST * (objective == "fd" and teacher == "L")
                found.append(cell)
    return found


def numbers(row):
    """Return the first number of each cell of a row."""
    values = [re.match(r"[+−]?[\d.]+", text.strip()) for text in row.split("|")[2:-1]]
    return [None if value is None else float(value[0].replace("−", "-")) for value in values]


def test_differences_are_those_of_the_means(tmp_path):
    teachers = {"teachers": {"S": {}, "L": {}}}
    folder = made_up.write(tmp_path / "study", cells(), config=teachers)
    rows = gap_table(read_study(folder)).splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows] == ["`clip_kd`", "`fd`"]
    acc1 = {
        (objective, teacher): mean(
            100 * cell["student"]["acc1"]
            for cell in cells()
            if (cell["axes"]["objective"], cell["axes"]["teacher"]) == (objective, teacher)
        )
        for objective in ("clip_kd", "fd")
        for teacher in ("S", "L")
    }
    gaps = [acc1[objective, "L"] - acc1[objective, "S"] for objective in ("clip_kd", "fd")]
    assert [numbers(row)[0] for row in rows] == pytest.approx(gaps, abs=0.051)
    assert numbers(rows[0])[1] is None and numbers(rows[1])[1] == pytest.approx(gaps[1] - gaps[0], abs=0.051)
    assert -100 * LOST - 2 < numbers(rows[1])[1] < -100 * LOST + 2  # The luck of the teachers is in both.


@pytest.mark.slow
def test_the_report_has_the_table(tmp_path):
    folder = made_up.write(tmp_path / "study", cells(), config={"teachers": {"S": {}, "L": {}}})
    write_report(folder)
    assert gap_table(read_study(folder)) in (folder / "report.md").read_text(encoding="utf-8")


def test_other_studies_have_no_such_table(tmp_path):
    several = made_up.write(tmp_path / "several", cells(), config={"teachers": {"S": {}, "M": {}, "L": {}}})
    alone = [cell for cell in cells() if cell["axes"]["objective"] == "fd"]
    single = made_up.write(tmp_path / "single", alone, config={"teachers": {"S": {}, "L": {}}})
    assert gap_table(read_study(several)) is gap_table(read_study(single)) is None
