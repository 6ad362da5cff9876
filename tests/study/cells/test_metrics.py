"""Numbers of a cell, by type of question and by benchmark, and those of pairs of captions."""

import made_up_study as made_up
import pytest

from hf_clip_kd.study.cells.cells import read_study
from hf_clip_kd.study.cells.metrics import (
    COMPOSITIONAL,
    GROUP_SCORE,
    TEXT_RETRIEVAL,
    TEXT_SCORE,
    changed_captions,
    probes,
    question_types,
)
from hf_clip_kd.study.report.figures.question_types import rows
from hf_clip_kd.study.report.tables import sweep_tables

KINDS = ("swapped_colors", "changed_attribute")


def compositional(value):
    found = {"text_acc": value, "image_acc": value / 2, "acc": value / 4}
    return found | {f"{metric}/{kind}": found[metric] / (1 + i) for metric in found for i, kind in enumerate(KINDS)}


def test_scores_of_one_benchmark_and_of_two():
    block = compositional(0.5)
    assert [metric.of({"student": block}) for metric in COMPOSITIONAL] == [50, 25, 12.5, None]
    assert changed_captions({"student": block}) == {"swapped_colors": 50, "changed_attribute": 25}
    assert probes({"student": {"text_acc": 0.5}}) == {"compositional text score": 0.5}
    two = {f"{name}/{key}": value for name in ("shapes", "winoground") for key, value in block.items()}
    two |= {"shapes/text_acc": 0.3, "vg_relation/text_acc": 0.7}
    assert TEXT_SCORE.of({"student": two}) == pytest.approx(50)
    assert changed_captions({"student": two})["winoground/swapped_colors"] == 50
    assert changed_captions({"student": {"acc1": 0.5}}) == changed_captions({}) == {}


def test_tables_and_heat_map_take_them(tmp_path):
    cells = made_up.cells(questions=40)
    for cell in cells:
        cell["student"] |= {"macro_acc": 0.5} | compositional(0.4 + 0.2 * (cell["axes"]["objective"] == "icl"))
    study = read_study(made_up.write(tmp_path / "study", cells))
    tables = {entry["title"]: entry["table"] for entry in sweep_tables(study)}
    for metric in COMPOSITIONAL:
        assert metric.title in tables["Objectives"]
    found, compared = rows(study)
    (row,) = (values for name, values in found.items() if name.startswith("icl "))
    assert (row["caption, swapped_colors"], row["caption, changed_attribute"]) == pytest.approx((60, 30))
    assert list(row)[: len(made_up.TYPES)] == list(made_up.TYPES)
    (name,) = (name for name in found if name.startswith("icl "))
    assert compared[name]["caption, swapped_colors"] == pytest.approx(40)


def test_types_of_a_benchmark():
    vqa = {"accuracy": 0.5, "count/accuracy": 0.25, "count/answer_bits": 3.0}
    assert question_types({"vqa": vqa}) == {"count": 25}


def test_several_benchmarks_have_their_main_metric():
    vqa = {"accuracy": 0.4, "mmvp/accuracy": 0.6, "mmvp/pair_accuracy": 0.1, "mmvp/main": 0.1, "mme/main": 0.7}
    assert question_types({"vqa": vqa | {"blink/Jigsaw/accuracy": 0.2, "blink/main": 0.3}}) == pytest.approx(
        {"mmvp": 10, "mme": 70, "blink": 30}
    )


def test_several_benchmarks_of_captions_have_a_column_each(tmp_path):
    """A data set with a main metric of its own is no part of a mean. It stands in tables and heat map."""
    block = {"winoground/text_acc": 0.25, "winoground/acc": 0.1, "winoground/main": 0.1}
    block |= {"sugarcrepe/text_acc": 0.8, "macro_acc": 0.7, "sugarcrepe/main": 0.7}
    block |= {"image_retrieval_recall@1": 0.3, "xm3600/main": 0.2, "xm3600/text_retrieval_recall@1": 0.1}
    block |= {"flickr/text_retrieval_recall@1": 0.5}
    cell = {"student": block}
    assert TEXT_SCORE.of(cell) is GROUP_SCORE.of(cell) is None
    assert TEXT_RETRIEVAL.of(cell) == 50
    assert changed_captions(cell) == pytest.approx({"winoground": 10, "sugarcrepe": 70, "xm3600": 20})
    assert not any("main" in name for name in probes(cell))
    cells = made_up.cells(questions=40)
    for cell in cells:
        del cell["student"]["text_retrieval_recall@1"]
        cell["student"] |= block
    study = read_study(made_up.write(tmp_path / "study", cells))
    assert [metric.title for metric in study.columns][-3:] == ["winoground", "sugarcrepe", "xm3600"]
    (table,) = (entry["table"] for entry in sweep_tables(study) if entry["title"] == "Objectives")
    assert " | winoground | sugarcrepe | xm3600 |" in table and "10.0 ± 0.0 | 70.0 ± 0.0 | 20.0 ± 0.0" in table


def test_a_benchmark_without_categories_has_one_column():
    assert changed_captions({"student": {"text_acc": 0.3}}) == {"all": 30}
    assert changed_captions({"student": {"text_acc": 0.3, "macro_acc": 0.25}}) == {"all": 25}


def test_benchmarks_of_an_old_cell_have_one_share_each():
    vqa = {"accuracy": 0.4, "docvqa/anls": 0.5, "docvqa/form/anls": 0.75, "blink/accuracy": 0.3}
    vqa |= {"blink/Jigsaw/accuracy": 0.2, "mmvp/accuracy": 0.6, "mmvp/pair_accuracy": 0.1}
    assert question_types({"vqa": vqa}) == {"docvqa": 50, "blink": 30, "mmvp": 60}
