"""Tables of further benchmarks: a table for each set and axis, apart from the scores of the study."""

from statistics import mean

import made_up_meter as meter
import made_up_study as made_up
import pytest

from hf_clip_kd.study.cells.cells import read_study
from hf_clip_kd.study.report.tables import benchmark_tables, slope_table, sweep_tables

TITLE = "Vision-centric"


def cells(with_tables):
    found = []
    for teacher in ("S", "L"):
        for seed in range(3):
            cell = made_up.cell(teacher, "clip_kd", "x1", "plain", seed)
            share = 0.3 + 0.01 * seed + (0.2 + 0.004 * seed) * (teacher == "L")
            found.append(cell | ({"vqa_tables": {TITLE: {"mmvp": share, "blink": 0.5}}} if with_tables else {}))
    return found


def study(tmp_path, with_tables):
    config = {"teachers": {"S": {}, "L": {}}} | ({"vqa_tables": {TITLE: "a.yaml"}} if with_tables else {})
    return read_study(made_up.write(tmp_path / str(with_tables), cells(with_tables), config=config))


def test_each_set_has_a_table_with_a_column_for_each_benchmark(tmp_path):
    found = benchmark_tables(study(tmp_path, True))
    assert [entry["title"] for entry in found] == ["Vision-centric: teachers"]
    header, _, first, second = found[0]["table"].splitlines()
    assert [text.strip() for text in header.split("|")[1:-1]] == ["teacher", "seeds", "mmvp", "blink"]
    assert first.split("|")[3].strip() == f"{100 * mean((0.3, 0.31, 0.32)):.1f} ± 1.0"
    assert second.split("|")[3].strip() == "51.4 ± 1.4 ▲" and second.split("|")[4].strip() == "50.0 ± 0.0"


@pytest.mark.slow
def test_slopes_have_a_row_for_each_score_of_the_student_and_a_column_for_each_of_the_teacher():
    lines = slope_table(meter.study()).splitlines()
    assert len(lines) == 2 + 4 * 3 and lines[0].count("for the teacher's") == 3


def test_other_tables_do_not_change(tmp_path):
    plain, whole = study(tmp_path, False), study(tmp_path, True)
    assert benchmark_tables(plain) == [] and sweep_tables(plain) == sweep_tables(whole) != []
