"""Learning curves: which towers are shown."""

import dataclasses

import made_up_meter as meter
import made_up_study
import numpy as np
import pytest

from hf_clip_kd.study.cells.cells import read_study
from hf_clip_kd.study.cells.metrics import AREA, BITS, VQA
from hf_clip_kd.study.estimates.curves import lines
from hf_clip_kd.study.report.figures import figures_of
from hf_clip_kd.study.report.meter_findings import about_holding, about_reading
from hf_clip_kd.study.report.meter_tables import curve_table


def test_lines_are_the_ladder_and_the_students_of_the_strongest_teacher():
    found = {line.label: line for line in lines(meter.study())}
    teachers = [f"teacher {name}" for name in meter.TEACHERS]
    assert list(found) == ["untrained", "alone", *teachers, "clip_kd from L", "clip_kd_patch from L"]
    study = meter.study()
    runs = [run for run in study.runs if run["id"].startswith("L-clip_kd-") and "trained" in run["id"]]
    expected = 100 * np.mean([run["curve"]["accuracy"] for run in runs], axis=0)
    assert found["clip_kd from L"].values(VQA) == pytest.approx(expected)
    assert found["teacher L"].values(BITS)[-1] == pytest.approx(BITS.of(study.record["teachers"]["L"]))
    assert found["clip_kd from L"].mean(AREA) == pytest.approx(np.mean([AREA.of(run) for run in runs]))


def test_students_have_the_length_that_most_objectives_share():
    study = meter.study()
    longer = [
        run | {"id": f"{run['id']}-longer", "steps": 9900, "axes": run["axes"] | {"duration": "longer"}}
        for run in study.runs
        if run["axes"]["teacher"] is None or run["axes"]["objective"] == "clip_kd"
    ]
    durations = {run["axes"]["duration"] for run in study.runs}
    both = dataclasses.replace(study, runs=[*study.runs, *longer], cells=[*study.cells, *longer])
    found = [line for line in lines(both) if line.kind == "student"]
    assert [line.label for line in found] == ["alone", "clip_kd from L", "clip_kd_patch from L"]
    assert {record["axes"]["duration"] for line in found for record in line.records} == durations


def test_the_table_sets_what_is_held_beside_what_is_read():
    found = curve_table(meter.study())
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in found["table"].splitlines()[2:]}
    assert found["reference"] == "alone" and rows["untrained"][0].strip() == "–"
    assert rows["untrained"][-1].strip() == "–" and rows["teacher L"][-1].strip() == "100"
    assert float(rows["teacher S"][-1]) > float(rows["teacher M"][-1]) > 100


def test_findings_keep_holding_and_reading_apart():
    assert "question probe" in about_holding(meter.study()) and "VQA" not in about_holding(meter.study())
    text = about_reading(meter.study())
    assert "in its own VQA accuracy" in text and "teacher L reaches them at step 100" in text
    assert about_reading(meter.with_settings(meter.study(), meter="question_probe")) is None


def test_a_probe_that_still_rises_is_said():
    study = meter.with_settings(meter.study())
    study.cells = [cell | {"question_probe": {"vqa": {"rising": cell["axes"]["seed"] == 0}}} for cell in study.cells]
    assert "In 7 of 21 cells it still rose" in about_holding(study) and "still" not in about_holding(meter.study())


def test_a_study_without_curves_has_no_table_and_no_figure_of_them(tmp_path):
    study = read_study(made_up_study.write(tmp_path / "old", made_up_study.cells(seeds=(0,))))
    assert curve_table(study) is None and lines(study) == []
    assert "curves" not in figures_of(study) and "curves" in figures_of(meter.study())
