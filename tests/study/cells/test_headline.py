"""A study names the numbers of its tables, and the first is its zero-shot accuracy everywhere."""

import json

import made_up_study as made_up
import pytest
from report_texts import write_and_read

from hf_clip_kd.study.cells.cells import read_study
from hf_clip_kd.study.cells.metrics import ZERO_SHOT
from hf_clip_kd.study.report.tables import sweep_tables

HEADLINE = {"unseen names": "unseen/acc1", "image R@10": "image_retrieval_recall@10"}


def write(folder, headline):
    """Write a study with two sets of names. The mean over both differs from that of `unseen`."""
    cells = made_up.cells(seeds=(0,), questions=40)
    for cell in cells:
        own = cell["student"].pop("acc1")
        cell["student"] |= {"unseen/acc1": own, "category/acc1": 0.9, "image_retrieval_recall@10": own + 0.1}
    made_up.write(folder, cells)
    record = json.loads((folder / "study.json").read_text())
    record["config"]["headline"] = headline
    for teacher in record["teachers"].values():
        teacher["student"] = {"unseen/acc1": 0.25, "category/acc1": 0.9, "image_retrieval_recall@10": 0.5}
    (folder / "study.json").write_text(json.dumps(record))
    return folder


def test_the_first_is_zero_shot_accuracy_and_all_are_columns(tmp_path):
    study = read_study(write(tmp_path / "study", HEADLINE))
    cell = study.cells[0]
    assert ZERO_SHOT.of(cell) == pytest.approx(100 * cell["student"]["unseen/acc1"])
    assert study.strength("L") == 25
    titles = [metric.title for metric in study.columns]
    assert titles[:2] == ["zero-shot accuracy", "image R@10"] and "image R@1" not in titles
    tables = [entry["table"] for entry in sweep_tables(study)]
    assert all(r"image R\@10 |" in table and r"R\@1 |" not in table for table in tables)
    plain = read_study(write(tmp_path / "plain", {}))
    assert ZERO_SHOT.of(plain.cells[0]) == pytest.approx(50 * (0.9 + cell["student"]["unseen/acc1"]))


def test_the_report_says_which_it_is(tmp_path, monkeypatch):
    text = write_and_read(write(tmp_path / "study", HEADLINE), monkeypatch)
    assert "puts first, here `unseen names`." in text


def test_a_score_that_was_not_measured_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"`headline` names \['seen/acc1'\].*unseen/acc1, category/acc1.*Correct it"):
        read_study(write(tmp_path / "study", {"seen": "seen/acc1"}))
