"""Readings of a study: stages that differ, the best of several, and errors before anything runs."""

from pathlib import Path

import pytest
from tiny_study import TINY

from hf_clip_kd.study.running.arguments import StudyArguments
from hf_clip_kd.study.running.collect import cell_id
from hf_clip_kd.study.running.grid import Reader
from hf_clip_kd.study.running.plan import Plan
from hf_clip_kd.study.running.readings import stages_of

CONFIGS = Path(__file__).parents[3] / "recipes/configs/study"
READINGS = {"trained": {}, "frozen": {"stage": "pretrain"}, "last": {"vision_feature_layer": -1}}
(STAGE,) = TINY["vlm"]
VALIDATED = STAGE | {
    "evaluation": STAGE["evaluation"] | {"validation": {"benchmark": "shapes", "split": "validation"}}
}


def make_plan(**changes):
    return Plan(StudyArguments(**(TINY | {"output_dir": "out", "cells": [{"teacher": "S"}]} | changes)), CONFIGS)


def vlms(plan):
    return [stage for stage in plan.stages if stage.kind == "vlm"]


def test_values_replace_those_of_the_last_stage_or_of_the_stage_that_builds():
    reading = {"stage": "pretrain", "vision_feature_layer": [-2, -1], "max_steps": 9}
    study = StudyArguments(
        **(TINY | {"output_dir": "out", "vlm": ["a.yaml", {"recipe": "b.yaml", "max_steps": 3, "seconds": 7}]}),
        readings={"other": reading},
    )
    assert stages_of(study, "other") == [
        {"recipe": "a.yaml", "vision_feature_layer": [-2, -1]},
        {"recipe": "b.yaml", "max_steps": 9, "seconds": 7, "stage": "pretrain"},
    ]
    assert study.vlm[1] == {"recipe": "b.yaml", "max_steps": 3, "seconds": 7}


def test_a_study_that_names_no_reading_keeps_its_stages_and_names():
    plain, named = make_plan(), make_plan(readings={"trained": {}})
    assert [stage.id for stage in plain.stages] == [stage.id for stage in named.stages]
    (cell,), (other,) = plain.cells, named.cells
    assert (cell.reading, other.reading) == ("default", "trained") and str(
        cell
    ) == "S vit clip_kd x1 plain tiny seed 0"
    assert cell_id(named, other) == cell_id(plain, cell).replace("tiny_s0", "tiny_trained_s0")


def test_a_reading_changes_the_vlm_and_nothing_else():
    plan = make_plan(readings=READINGS, cells=[{"teacher": "S", "reading": list(READINGS)}])
    told = {cell.reading: measured.vqa.arguments for cell, measured in plan.cells.items()}
    assert [told[name]["stage"] for name in READINGS] == ["finetune", "pretrain", "finetune"]
    assert [told[name].get("vision_feature_layer") for name in READINGS] == [None, None, -1]
    assert len({measured.training.id for measured in plan.cells.values()}) == 1
    assert len({measured.evaluate.id for measured in plan.cells.values()}) == 1
    names = [cell_id(plan, cell) for cell in plan.cells]
    assert len(set(names)) == 3 and "tiny_frozen_s0" in names[1]


def test_teachers_and_references_are_read_as_students_are():
    cells = [{"teacher": ["S", "L"], "vlm_seed": [0, 1]}, {"teacher": "S", "reading": "frozen", "vlm_seed": 0}]
    plan = make_plan(readings=READINGS, cells=cells, seeds=[0, 5])
    readers = {Reader("tiny", "trained", 0), Reader("tiny", "trained", 1), Reader("tiny", "frozen", 0)}
    assert plan.teachers.keys() == {(name, reader) for name in "SL" for reader in readers}
    assert plan.references.keys() == {("blind", reader) for reader in readers}
    for (_, reader), measured in [*plan.teachers.items(), *plan.references.items()]:
        assert measured.vqa.arguments["seed"] == reader.vlm_seed
        assert measured.vqa.arguments["stage"] == ("pretrain" if reader.reading == "frozen" else "finetune")
    for cell, measured in plan.cells.items():
        assert measured.vqa.arguments["seed"] == cell.vlm_seed
        assert plan.teacher_of(cell) is plan.teachers[cell.teacher, cell.reader]
    # Four students; each is trained once, whatever reads it.
    assert len({measured.training.id for measured in plan.cells.values()}) == 2 * 2
    assert {measured.vqa.id for measured in plan.teachers.values()} <= {stage.id for stage in vlms(plan)}


def test_a_second_language_model_reads_all_towers():
    models = TINY["language_models"] | {"other": TINY["language_models"]["tiny"] | {"max_steps": 3}}
    plan = make_plan(language_models=models, cells=[{"teacher": "S", "language_model": ["tiny", "other"]}])
    assert [reader.language_model for _, reader in plan.teachers] == ["tiny", "other"]
    assert [reader.language_model for _, reader in plan.references] == ["tiny", "other"]
    assert len([stage for stage in plan.stages if stage.kind == "language_model"]) == 2
    assert len({measured.vqa.id for measured in plan.references.values()}) == 2


def test_without_seeds_of_its_own_a_vlm_has_the_students():
    plan = make_plan(seeds=[3, 4])
    assert [(cell.vlm_seed, measured.vqa.arguments["seed"]) for cell, measured in plan.cells.items()] == [
        (3, 3), (4, 4)
    ]  # fmt: skip
    # A teacher is measured once, with the seed of the YAML.
    ((_, reader),) = plan.teachers
    assert reader.vlm_seed is None and plan.teachers["S", reader].vqa.arguments["seed"] == 0
    # A cell that names the same seed is the same cell.
    assert (
        make_plan(cells=[{"teacher": "S"}, {"teacher": "S", "vlm_seed": 0}]).cells.keys() == make_plan().cells.keys()
    )


def test_seeds_of_a_vlm_are_in_the_names():
    plan = make_plan(vlm_seeds=[0, 1], seeds=[0, 1])
    names = [cell_id(plan, cell).rpartition("_")[0] for cell in plan.cells]
    assert names == [f"S_vit_clip_kd_x1_plain_tiny_{seeds}" for seeds in ("s0", "s0_v1", "s1_v0", "s1")]
    assert [str(cell).partition("tiny ")[2] for cell in plan.cells][:2] == ["seed 0", "seed 0 VLM seed 1"]


def test_teachers_are_read_with_the_seed_of_each_student():
    """`vlm_seed: null` leaves each student its own seed; its training is that of a study without `vlm_seeds`."""
    plan = make_plan(vlm_seeds=[0], seeds=[0, 1, 2], cells=[{"teacher": "S", "vlm_seed": None}])
    assert [cell.vlm_seed for cell in plan.cells] == [0, 1, 2]
    assert [reader.vlm_seed for _, reader in plan.teachers] == [0, 1, 2]
    usual = make_plan(seeds=[0, 1, 2], cells=[{"teacher": "S"}])
    assert [measured.stages for measured in plan.cells.values()] == [m.stages for m in usual.cells.values()]


def test_the_best_of_several_has_their_stages():
    readings = READINGS | {"best": {"best_of": ["trained", "last"]}}
    cells = [{"teacher": "S", "reading": ["trained", "last", "best"]}]
    plan = make_plan(readings=readings, cells=cells, vlm=[VALIDATED])
    trained, last, best = plan.cells.values()
    assert best.readings == {"trained": trained.vqa, "last": last.vqa}
    assert {trained.vqa, last.vqa} <= set(best.stages)
    assert len({cell_id(plan, cell).rpartition("_")[2] for cell in plan.cells}) == 3
    # Two towers, S and its student, with two readings each; and the blind.
    assert len(vlms(plan)) == 3 * 2


def test_stages_of_one_tower_and_layer_share_its_features():
    readings = READINGS | {"long": {"max_steps": 9}}
    cells = [{"teacher": ["S", "L"], "reading": list(readings), "vlm_seed": [0, 1]}]
    plan = make_plan(readings=readings, cells=cells)
    shared = {}
    for cell, measured in plan.cells.items():
        shared.setdefault(measured.vqa.features, set()).add((cell.teacher, cell.reading == "last"))
        assert measured.vqa.features != plan.teacher_of(cell).vqa.features
    assert sorted(len(towers) for towers in shared.values()) == [1] * 4


def test_a_longer_reading_takes_longer():
    readings = {"short": {}, "long": {"max_steps": 8}, "said": {"max_steps": 8, "seconds": 3}}
    plan = make_plan(readings=readings, cells=[{"teacher": "S", "reading": list(readings)}])
    assert [measured.vqa.seconds for measured in plan.cells.values()] == [12, 24, 3]


def test_teachers_of_one_strength_are_told_apart_and_their_training_does_not_know():
    teachers = TINY["teachers"] | {"S2": TINY["teachers"]["S"] | {"seed": 1, "strength": "S"}}
    plan = make_plan(teachers=teachers, cells=[{"teacher": ["S", "S2"]}])
    first, second = (measured.training for measured in plan.teachers.values())
    assert first.id != second.id and "strength" not in second.arguments and second.arguments["seed"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cells": [{"teacher": "S", "reading": "frozn"}]}, r"the reading 'frozn' .* `readings` has \['trained'"),
        ({"readings": {"a b": {}}}, "cannot be a name"),
        ({"readings": {"a": -1}}, "-1 is no reading.*Write for example `a:"),
        ({"readings": {"a": {"seed": 1}}}, "sets `seed`, on which the study decides.*`vlm_seeds`"),
        ({"readings": {"a": {"vision_tower": "x"}}}, "sets `vision_tower`"),
        (
            {"readings": {"a": {}, "b": {"best_of": ["a"]}}},
            r"lists two or more of the other readings, which are \['a'\]",
        ),
        ({"readings": {"a": {}, "b": {"best_of": ["a", {}]}}}, "is no choice"),
        ({"readings": READINGS | {"b": {"best_of": ["trained", "none"]}}}, "is no choice"),
        ({"readings": READINGS | {"b": {"best_of": ["trained", "last"], "stage": "x"}}}, "stands alone"),
        ({"readings": READINGS | {"b": {"best_of": ["trained", "last"]}}}, "one that is named `validation`"),
        ({"vlm_seeds": ["a"]}, r"'a' in .* is no seed.*`vlm_seed: \[0, 1, 2\]`"),
        ({"cells": [{"teacher": "S", "vlm_seed": -1}]}, "-1 in .* is no seed"),
        ({"cells": [{"teacher": "S", "vlm_sed": 1}]}, "Did you mean `vlm_seed`"),
        ({"meter": "curve_area"}, "no `score_at_steps`"),
    ],
)
def test_what_cannot_be_read_is_told(changes, message):
    with pytest.raises(ValueError, match=message):
        make_plan(**{"readings": READINGS} | changes)


NO_VLM = {"vlm": [], "language_models": {}, "references": {}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"readings": READINGS}, "`readings` is .* `vlm` has no stage"),
        ({"vlm_seeds": [0]}, "`vlm_seeds` is .* `vlm` has no stage"),
        ({"meter": "answer_bits"}, "`meter=answer_bits` judges by answers"),
        ({"cells": [{"teacher": "S", "vlm_seed": 1}]}, "`vlm_seed` in .* `vlm` has no stage"),
    ],
)
def test_without_a_language_model_nothing_is_read(changes, message):
    with pytest.raises(ValueError, match=message):
        make_plan(**(NO_VLM | changes))


def test_representations_may_use_the_language_model_and_have_a_floor():
    block = TINY["representation"]["vqa"] | {"gromov_wasserstein": 100, "language_model": "tiny"}
    plan = make_plan(representation={"vqa": block}, references={"blind": None, "untrained": "test-vit"})
    (measured,) = plan.cells.values()
    (made,) = (stage for stage in plan.stages if stage.kind == "language_model")
    assert measured.evaluate.arguments["evaluation"]["vqa"]["language_model"] == made.output
    assert made in measured.evaluate.needs
    floors = {name: reference.evaluate for (name, _), reference in plan.references.items()}
    assert floors["blind"] is None
    told = floors["untrained"].arguments
    assert (told["model_name_or_path"], told["untrained"], list(told["evaluation"])) == ("test-vit", True, ["vqa"])
