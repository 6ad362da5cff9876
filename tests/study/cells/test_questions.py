"""Questions that a blind model answers right, left out by hand and by the report."""

import made_up_study as made_up
import numpy as np
import pytest

from hf_clip_kd.study.cells.cells import read_study
from hf_clip_kd.study.cells.metrics import VQA, question_types
from hf_clip_kd.study.cells.questions import needs_picture, restricted
from hf_clip_kd.study.report import report
from recipes import study_report

CORRECT, TYPES = [1, 0, 1, 1], ["count", "count", "shape", "shape"]


def blind(*scores, name="blind"):
    tower = {
        "kind": "reference",
        "name": name,
        "axes": {"reading": "default", "vlm_seed": 0, "language_model": "tiny"},
    }
    return [tower | {"vqa": {"accuracy": np.mean(s)}, "vqa_correct": s} for s in scores]


def test_the_majority_of_the_blind_models_decides():
    towers = blind([1, 1, 0], [1, 0, 0], [0, 1, 0]) + blind([0, 0, 1], name="untrained")
    assert needs_picture({"towers": towers}).tolist() == [False, False, True]
    assert needs_picture({"towers": blind([1, 1], [0, 1])}).tolist() == [True, False]  # One of two is no majority.


def test_scores_are_those_of_the_questions_that_stay():
    cell = {
        "vqa": {"accuracy": 0.75, "answer_bits": 2.0},
        "vqa_correct": CORRECT,
        "vqa_bits": [1.0, 2.0, 2.0, 3.0],
        "vqa_images": [0, 0, 1, 1],
        "vqa_types": TYPES,
        "curve": {"steps": [1]},
    }
    found = restricted(cell, np.array([False, True, True, True]))
    assert found["vqa"] == {
        "accuracy": pytest.approx(2 / 3), "count/accuracy": 0, "shape/accuracy": 1,
        "answer_bits": pytest.approx(7 / 3), "count/answer_bits": 2, "shape/answer_bits": 2.5,
    }  # fmt: skip
    assert found["vqa_images"] == [0, 1, 1] and found["vqa_types"] == TYPES[1:] and found["curve"] == cell["curve"]
    assert restricted({"vqa": {"accuracy": 0.5}}, np.ones(4, bool))["vqa"] == {}


def test_a_score_that_is_no_mean_over_questions_stays_whole():
    with pytest.raises(ValueError, match="cannot be done.*one benchmark.*Set `leave_out_blind` to false"):
        restricted({"vqa": {"accuracy": 0.5}, "vqa_correct": CORRECT}, np.ones(4, bool))


@pytest.fixture
def cells():
    return [made_up.cell(t, "clip_kd", "x1", "plain", seed, questions=100) for seed in (0, 1) for t in "SL"]


def test_a_report_says_how_many_were_left_out(tmp_path, cells, monkeypatch):
    monkeypatch.setattr(report, "figures_of", lambda study: {})  # They take their time, and show nothing of this.
    right = [1] * 30 + [0] * 70
    folder = made_up.write(tmp_path / "study", cells, towers=blind(right))
    study_report.main([str(folder), "--leave_out_blind"])
    text = (folder / "report.md").read_text()
    assert "**30 of 100 questions are left out**" in text
    study = read_study(folder, leave_out_blind=True)
    expected = 100 * np.mean(cells[0]["vqa_correct"][30:])
    assert VQA.of(study.cells[0]) == pytest.approx(expected)
    assert study.record["references"]["blind"]["accuracy"] == 0 and question_types(study.cells[0]) == {}
    assert VQA.of(read_study(folder).cells[0]) == pytest.approx(100 * np.mean(cells[0]["vqa_correct"]))


def test_the_yaml_of_a_study_may_demand_it(tmp_path, cells):
    folder = made_up.write(tmp_path / "study", cells, config={"leave_out_blind": True}, towers=[])
    with pytest.raises(ValueError, match=r"holds no answers.*references: \{blind: null\}"):
        read_study(folder)
    folder = made_up.write(tmp_path / "all", cells, config={"leave_out_blind": True}, towers=blind([1] * 100))
    with pytest.raises(ValueError, match="leaves no question"):
        read_study(folder)
