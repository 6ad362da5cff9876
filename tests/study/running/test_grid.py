"""Cells and stages of a study's YAML: shared stages, the parts that an id depends on, and errors."""

from pathlib import Path, PurePosixPath

import pytest
import yaml
from tiny_study import TINY

from hf_clip_kd.study.running.arguments import StudyArguments
from hf_clip_kd.study.running.collect import cell_id
from hf_clip_kd.study.running.grid import Cell, Reader, cells_of
from hf_clip_kd.study.running.plan import Plan

CONFIGS = Path(__file__).parents[3] / "recipes/configs/study"
FIRST = {"student": "vit", "duration": "x1", "data": "plain", "language_model": "tiny", "reading": "default"}


def study(**changes):
    return StudyArguments(**(TINY | {"output_dir": "out"} | changes))


def plan(**changes):
    return Plan(study(**changes), CONFIGS)


def kinds(stages):
    return sorted(stage.kind for stage in stages)


# ---- Cells ----


def test_a_block_is_all_combinations_and_what_it_leaves_out_is_the_first():
    cells = cells_of(study(cells=[{"teacher": ["S", "L"], "duration": ["x1", "x2"], "seed": [0, 5]}]))
    wanted = {
        Cell(teacher, "vit", "clip_kd", duration, "plain", seed, "tiny", "default", seed)
        for teacher in "SL" for duration in ("x1", "x2") for seed in (0, 5)
    }  # fmt: skip
    assert set(cells) == wanted and len(cells) == 8
    assert [cell.seed for cell in cells] == [0] * 4 + [5] * 4  # an early look sees whole columns


def test_what_several_blocks_ask_for_is_one_cell():
    cells = cells_of(study(cells=[{"teacher": ["S", "L"]}, {"duration": ["x1", "x2"]}], seeds=[0, 1]))
    assert len(cells) == len(set(cells)) == 2 * 3


def test_a_block_may_have_the_first_seeds_of_the_study():
    blocks = [{"teacher": "S"}, {"teacher": "L", "seed": {"first": 2}}]
    for seeds in ([0, 1, 2], [5, 6, 7]):
        found = cells_of(study(cells=blocks, seeds=seeds))
        assert [cell.seed for cell in found if cell.teacher == "L"] == seeds[:2]
        assert [cell.seed for cell in found if cell.teacher == "S"] == seeds


def test_axes_are_those_of_a_cell_file():
    (cell,) = cells_of(study(cells=[{"teacher": None, "objective": "alone"}]))
    assert cell.axes == {"teacher": None, "objective": "alone", "seed": 0, "vlm_seed": 0} | FIRST


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cells": []}, "`cells` is empty"),
        ({"seeds": []}, "`seeds` is empty"),
        ({"cells": [{"techer": "S"}]}, "Did you mean `teacher`"),
        ({"cells": [{"teacher": "XXL"}]}, r"`teachers` has \['S', 'L'\]"),
        ({"cells": [{"data": None}]}, "the data None"),
        ({"cells": [{"teacher": None}]}, "with the teacher null. It needs a teacher"),
        ({"cells": [{"teacher": "S", "objective": "alone"}]}, "whom it does not ask"),
        ({"cells": ["S"]}, "'S' is no block.*teacher: L"),
        ({"cells": [{"seed": "a"}]}, "is no seed"),
        ({"cells": [{"seed": {"first": 0}}]}, "is no seed"),
        ({"cells": [{"seed": {"last": 2}}]}, "is no seed"),
        ({"objectives": {}}, "`objectives` is empty"),
        ({"objectives": {}, "cells": None}, "`objectives` is empty"),
        ({"language_models": {}}, "`language_models` is empty"),
        ({"students": {"a/b": "test-vit"}}, "cannot be a name"),
        ({"reference_teacher": "XXL"}, "`reference_teacher=XXL` is not defined"),
        ({"crops_from": "XXL"}, "`crops_from=XXL` is not defined"),
        ({"crops_from": "S", "cache": None}, "`crops_from=S` without `cache`.*Write `cache: YAML`"),
        ({"base_objective": "fd"}, r"`base_objective=fd` is not defined. `objectives` has \['clip_kd', 'alone'\]"),
        ({"durations": {"x1": 1, "x2": 0}}, "is no factor"),
        ({"teachers": {"S": {}}, "reference_teacher": "S", "cells": [{}]}, "does not say what it is"),
        ({"distill": "none.yaml"}, "names no YAML"),
        ({"processes": 0}, "`processes=0` runs nothing"),
    ],
)
def test_what_cannot_be_run_is_told(changes, message):
    with pytest.raises(ValueError, match=message):
        plan(**changes)


# ---- Stages ----


def test_a_student_alone_sees_the_crops_of_a_cache_that_others_learn_from():
    cells = [{"teacher": None, "objective": "alone"}, {"teacher": ["S", "L"]}]
    own, shared = plan(cells=cells), plan(cells=cells, crops_from="L")
    caches = {cell.teacher: cache_of(measured.training) for cell, measured in shared.cells.items()}
    assert caches[None] == caches["L"] != caches["S"]
    (alone,) = (measured.training for cell, measured in shared.cells.items() if cell.teacher is None)
    assert "teacher_model_name_or_path" not in alone.arguments and alone.arguments["losses"] == {"clip": 1.0}
    # No other stage changes.
    (before,) = (measured.training for cell, measured in own.cells.items() if cell.teacher is None)
    assert "teacher_cache" not in before.arguments
    assert {s.id for s in own.stages if s.kind in ("cache", "teacher")} == {
        s.id for s in shared.stages if s.kind in ("cache", "teacher")
    }
    # Nobody else may learn from that teacher.
    (single,) = plan(cells=cells[:1], crops_from="L").cells.values()
    assert cache_of(single.training).arguments["losses"] == "clip_kd"


def cache_of(stage):
    (cache,) = (need for need in stage.needs if need.kind == "cache")
    return cache


def test_cells_share_what_is_equal():
    full = plan(cells=[{"teacher": ["S", "L"]}, {"teacher": "L", "duration": "x2"}], seeds=[0, 1], references={})
    # Six students of two teachers, each with its VLM and its scores, as the teachers have.
    assert kinds(full.stages) == sorted(
        ["teacher", "cache"] * 2 + ["language_model"] + ["student"] * 6 + ["vlm", "evaluate"] * (6 + 2) + ["cost"]
    )
    teachers = {measured.training.arguments["teacher_cache"] for measured in full.cells.values()}
    assert len(teachers) == 2


def test_stages_come_after_what_they_need():
    full = plan()
    seen = set()
    for stage in full.stages:
        assert {need.id for need in stage.needs} <= seen
        seen.add(stage.id)
    assert all({stage.id for stage in full.awaited_by(cell)} <= seen for cell in full.cells)


def test_a_student_is_told_its_cell():
    full = plan(cells=[{"teacher": "L", "duration": "x2", "data": "objects", "seed": 7}])
    (measured,) = full.cells.values()
    told = measured.training.arguments
    teacher, cache = measured.training.needs
    assert (told["max_steps"], told["seed"], told["losses"]) == (8, 7, "clip_kd")
    assert told["num_train_epochs"] == 2 * 1.6
    assert told["datasets"] == TINY["data"]["objects"]["datasets"] == cache.arguments["datasets"]
    assert (told["teacher_model_name_or_path"], told["teacher_cache"]) == (teacher.output, cache.output)
    assert measured.vqa.arguments["vision_tower"] == measured.training.output and measured.vqa.arguments["seed"] == 7
    blocks = measured.evaluate.arguments["evaluation"]
    assert [block.get("teacher") for block in blocks.values()] == [None, None, teacher.output, teacher.output]
    assert teacher in measured.evaluate.needs


def test_a_student_alone_is_compared_with_the_reference():
    full = plan(cells=[{"teacher": None, "objective": "alone"}])
    (measured,) = full.cells.values()
    assert not {"teacher_model_name_or_path", "teacher_cache"} & measured.training.arguments.keys()
    assert isinstance(measured.evaluate.arguments["evaluation"]["vqa"]["teacher"], PurePosixPath)
    (without,) = plan(cells=[{"teacher": None, "objective": "alone"}], reference_teacher=None).cells.values()
    assert "teacher" not in without.evaluate.arguments["evaluation"]["vqa"]


def test_a_named_teacher_is_not_trained_and_without_a_cache_it_is_asked_anew():
    full = plan(teachers={"L": {"model": "org/clip"}}, cells=[{}], cache=None)
    assert kinds(full.stages) == sorted(
        ["cost"] * 2 + ["language_model", "student"] + ["vlm", "evaluate"] * 2 + ["vlm"]
    )
    (measured,) = full.cells.values()
    assert measured.training.arguments["teacher_model_name_or_path"] == "org/clip"
    assert full.teachers["L", Reader("tiny", "default", None)].cost.arguments == {"model_name_or_path": "org/clip"}


def of_kind(plan, kind):
    return [stage for stage in plan.stages if stage.kind == kind]


OBJECTIVES = {
    "clip_kd": "clip_kd",
    "fd": {"clip": 1, "fd": 4},
    "patch": {"clip": 1, "patch": 1},
    "patch_5": {"clip": 1, "patch": 5},
}


def test_one_cache_of_a_teacher_and_data_serves_all_objectives(tmp_path):
    blocks = [{"teacher": ["S", "L"], "objective": list(OBJECTIVES)}, {"teacher": "L", "data": "objects"}]
    full = plan(objectives=OBJECTIVES, cells=blocks)
    caches = of_kind(full, "cache")
    assert [stage.arguments["losses"] for stage in caches] == [{"clip": 1, "patch": 1}] * 2 + ["clip_kd"]
    for cell, measured in full.cells.items():
        _, cache = measured.training.needs
        written = yaml.safe_load(measured.training.write_arguments(tmp_path).read_text())
        assert cache in caches and written["teacher_cache"] == str(tmp_path / cache.output)
        assert ("datasets" in cache.arguments) == (cell.data == "objects")


def test_an_objective_that_asks_for_more_leaves_the_ids_of_the_others():
    def ids(*objectives):
        full = plan(objectives=OBJECTIVES, cells=[{"objective": list(objectives)}])
        return {cell.objective: cell_id(full, cell) for cell in full.cells}

    assert ids("clip_kd", "fd").items() <= ids(*OBJECTIVES).items()
    assert ids("patch")["patch"] == ids(*OBJECTIVES)["patch"]


def test_generated_captions_are_shown_to_what_learns_from_them():
    data = {"plain": TINY["data"]["plain"] | {"synthetic_text_column": "synthetic_text"}}
    data["mix"] = {"datasets": [dict(data["plain"])]}
    objectives = {"clip_kd": "clip_kd", "reinforced": "reinforced"}
    full = plan(objectives=objectives, data=data, cells=[{"objective": list(objectives), "data": list(data)}])
    seen = {
        (stage.arguments["losses"], "datasets" in stage.arguments): "synthetic_text_column" in str(stage.arguments)
        for stage in of_kind(full, "student")
    }
    assert {losses for (losses, _), shown in seen.items() if shown} == {"reinforced"} and len(seen) == 4
    assert len(of_kind(full, "cache")) == 4  # data with generated captions are other data


# ---- No vision-language model ----

NO_VLM = {"vlm": [], "language_models": {}, "references": {}}


def test_without_a_language_model_students_are_scored_alone():
    full = plan(**NO_VLM)
    assert {stage.kind for stage in full.stages} == {"teacher", "cache", "student", "evaluate", "cost"}
    assert all(measured.vqa is None and measured.evaluate in measured.stages for measured in full.cells.values())
    assert full.references == {} and {reader for _, reader in full.teachers} == {Reader(None, None, None)}
    cell = next(iter(full.cells))
    assert str(cell) == "alone vit alone x1 plain seed 0"
    name, _, digits = cell_id(full, cell).rpartition("_")
    assert name == "alone_vit_alone_x1_plain_s0" and len(digits) == 8
    assert full.cells[cell].training.id == plan().cells[Cell(**(cell.axes | FIRST | {"vlm_seed": 0}))].training.id


@pytest.mark.parametrize("name", ["language_models", "references", "vqa"])
def test_what_only_a_language_model_reads_is_refused_without_one(name):
    changes = NO_VLM | {name: TINY.get(name) or "paper/vqa.yaml"}
    with pytest.raises(ValueError, match=f"`{name}` is .* `vlm` has no stage.*leave out `{name}`"):
        plan(**changes)


def test_stages_of_a_vlm_follow_each_other():
    spec = {**TINY["vlm"][0], "evaluation": None}
    full = plan(vlm=[spec, {**spec, "max_steps": 2}], vqa={"recipe": "paper/vqa.yaml"}, cells=[{}])
    (measured,) = full.cells.values()
    second = measured.vqa.needs[0]
    (first,) = second.needs
    assert [stage.kind for stage in (first, second, measured.vqa)] == ["vlm", "vlm", "vqa"]
    assert first.arguments["vision_tower"] == measured.training.output
    assert second.arguments["model_name_or_path"] == first.output and "vision_tower" not in second.arguments
    assert measured.vqa.arguments["model_name_or_path"] == second.output


def test_ids_of_cells_are_readable_and_change_with_what_could_change_numbers():
    def ids(**changes):
        full = plan(**changes)
        return {cell_id(full, cell) for cell in full.cells}

    before = ids()
    assert all(name.startswith(("S_vit_clip_kd_x1_plain_tiny_s0_", "L_vit_", "alone_vit_alone_")) for name in before)
    assert ids(output_dir="elsewhere", processes=7, estimates={}) == before
    assert not ids(distill=TINY["distill"] | {"max_steps": 5}) & before
    assert not ids(evaluate=TINY["evaluate"] | {"dtype": "float16"}) & before
    assert len(ids(objectives=TINY["objectives"] | {"alone": {"clip": 2.0}}) & before) == 3  # all but that one


def test_a_suite_in_the_evaluation_is_refused(tmp_path):
    path = tmp_path / "evaluate.yaml"
    path.write_text("suite: wds\n")
    with pytest.raises(ValueError, match="`evaluate` has `suite: wds`.*must be a block there. Write `NAME: {task"):
        plan(evaluate=str(path))
