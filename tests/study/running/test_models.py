"""Teachers of a study: lifted ones, whose towers were trained on inside a vision-language model."""

from pathlib import Path

import pytest
import yaml
from tiny_study import SMALL, TINY

from hf_clip_kd.study.running.arguments import StudyArguments
from hf_clip_kd.study.running.collect import seconds, write_study
from hf_clip_kd.study.running.grid import Reader
from hf_clip_kd.study.running.plan import Plan

CONFIGS = Path(__file__).parents[3] / "recipes/configs/study"
LIFTED = {"lift": "S", "recipe": "shapes/lift.yaml", "max_steps": 3, "seconds": 40} | SMALL
TEACHERS = TINY["teachers"] | {"S_lifted": LIFTED}
DENSE = {"clip_kd": 1.0, "patch": 5.0}
READER = Reader("tiny", "default", None)


def make_plan(**changes):
    changes = {
        "output_dir": "out",
        "teachers": TEACHERS,
        "objectives": {"dense": DENSE},
        "cells": [{"teacher": ["S", "S_lifted"]}],
    } | changes
    return Plan(StudyArguments(**(TINY | changes)), CONFIGS)


@pytest.fixture(scope="module")
def plan():
    return make_plan()


def test_a_lifted_teacher_gives_its_tokens_beside_the_embeddings_of_its_origin(plan, tmp_path):
    plain, lifted = (measured.training for measured in plan.cells.values())
    teacher, lift = (need for need in lifted.needs if need.kind in ("teacher", "lift"))
    assert plain.needs[0] == teacher and "lift" not in [need.kind for need in plain.needs]
    name = {"name": teacher.output, "tokens_from": lift.output}
    assert lifted.arguments["teacher_model_name_or_path"] == name
    cache = next(need for need in lifted.needs if need.kind == "cache")
    assert cache.arguments["teacher_model_name_or_path"] == name and set(cache.needs) == {teacher, lift}
    told = yaml.safe_load(lifted.write_arguments(tmp_path).read_text())
    assert told["teacher_model_name_or_path"]["tokens_from"] == str(tmp_path / lift.output)


def test_its_tower_learns_inside_of_a_vision_language_model(plan):
    (lift,) = (stage for stage in plan.stages if stage.kind == "lift")
    (language_model,) = (stage for stage in plan.stages if stage.kind == "language_model")
    assert lift.arguments["tune_vision_tower"] is True and lift.arguments["max_steps"] == 3 and lift.seconds == 40
    assert "feature_cache" not in lift.arguments and not {"lift", "strength"} & lift.arguments.keys()
    assert lift.arguments["vision_tower"] == lift.needs[0].output and lift.needs[0].kind == "teacher"
    assert lift.arguments["language_model"] == language_model.output and language_model in lift.needs


def test_a_recipe_that_goes_on_from_another_starts_from_the_tower():
    entry = {"lift": "S", "recipe": "../train_vlm/tinyllava_finetune.yaml", "tune_vision_tower": True}
    told = make_plan(teachers=TEACHERS | {"S_lifted": entry}).teachers["S_lifted", READER].training.arguments
    assert "model_name_or_path" not in told and told["vision_tower"] and told["language_model"]


def test_it_is_measured_as_a_tower_without_texts(plan):
    lifted, plain = plan.teachers["S_lifted", READER], plan.teachers["S", READER]
    assert lifted.vqa.arguments["vision_tower"] == lifted.training.output and lifted.training.kind == "lift"
    assert list(lifted.evaluate.arguments["evaluation"]) == ["classification", "vqa"]
    assert list(plain.evaluate.arguments["evaluation"])[:2] == ["zero_shot", "retrieval"]
    assert lifted.cost == plain.cost and lifted.training in lifted.evaluate.needs
    student = next(measured for cell, measured in plan.cells.items() if cell.teacher == "S_lifted")
    assert student.evaluate.arguments["evaluation"]["vqa"]["teacher"] == lifted.training.output
    without = make_plan(representation=None, reference_teacher=None)
    assert without.teachers["S_lifted", READER].evaluate is None


VISION = "timm:tf_efficientnet_lite0//lite0.safetensors"


@pytest.mark.parametrize(
    ("model", "measured"),
    [
        (VISION, False),
        ({"name": VISION, "dtype": "bfloat16"}, False),
        ([{"name": VISION, "weight": 0.5}, VISION], False),
        ([VISION, "openai/clip-vit-base-patch16"], True),
        ("openai/clip-vit-base-patch16", True),
    ],
)
def test_a_vision_model_is_asked_for_no_zero_shot_and_no_cost_of_texts(model, measured):
    changes = {"vlm": [], "references": {}, "language_models": {}, "representation": None, "reference_teacher": None}
    changes |= {"teachers": {"V": {"model": model}}, "cells": [{"teacher": "V"}]}
    plan = make_plan(**changes)
    (teacher,) = plan.teachers.values()
    assert (teacher.evaluate is not None) == (teacher.cost is not None) == measured
    # Its student is measured like any other.
    (student,) = plan.cells.values()
    assert list(student.evaluate.arguments["evaluation"]) == ["zero_shot", "retrieval"] and student.cost is not None
    assert student.training.arguments["teacher_model_name_or_path"] == model


def test_what_it_depends_on_makes_it_anew(plan):
    def lift(**changes):
        (stage,) = (stage for stage in make_plan(**changes).stages if stage.kind == "lift")
        return stage.id

    first = lift()
    assert lift(processes=7, vlm=[TINY["vlm"][0] | {"max_steps": 9}]) == first
    assert lift(teachers=TEACHERS | {"S_lifted": LIFTED | {"max_steps": 5}}) != first
    assert lift(teachers=TEACHERS | {"S": TEACHERS["S"] | {"max_steps": 3}}) != first
    tiny = TINY["language_models"]["tiny"] | {"max_steps": 3}
    assert lift(language_models={"tiny": tiny}) != first
    both = {"language_models": TINY["language_models"] | {"other": "org/other"}}
    assert lift(**both) == first
    assert lift(**both, teachers=TEACHERS | {"S_lifted": LIFTED | {"language_model": "other"}}) != first


def test_its_seconds_are_not_those_of_answers(plan, tmp_path):
    """A stage takes a second for each letter of its kind here."""
    for stage in plan.stages:
        folder = tmp_path / stage.folder
        folder.mkdir(parents=True)
        (folder / "stage.json").write_text(f'{{"seconds": {len(stage.kind)}}}')
    assert seconds(plan.teachers["S_lifted", READER], tmp_path) == {"student": 4, "vlm": 3, "evaluate": 8}


def test_study_json_has_no_zero_shot_of_it(plan, tmp_path):
    write_study(plan, tmp_path)
    record = yaml.safe_load((tmp_path / "study.json").read_text())
    assert record["config"]["teachers"]["S_lifted"]["lift"] == "S"
    assert record["config"]["base_objective"] is None


@pytest.mark.parametrize(
    ("entry", "changes"),
    [
        ({"lift": "nobody", "recipe": "shapes/lift.yaml"}, {}),
        ({"lift": "S_lifted", "recipe": "shapes/lift.yaml"}, {}),
        ({"lift": "both", "recipe": "shapes/lift.yaml"}, {}),
        ({"lift": "S"}, {}),
        (LIFTED | {"language_model": "other"}, {}),
        (LIFTED, {"vlm": [], "language_models": {}, "references": {}}),
    ],
    ids=["unknown", "lifted twice", "an ensemble", "no recipe", "unknown language model", "no language model"],
)
def test_what_cannot_be_lifted_is_told(entry, changes):
    teachers = TEACHERS | {"both": {"model": ["org/a", "org/b"]}, "X": entry}
    with pytest.raises(ValueError, match=r"`teachers`, 'X': .* lifts .*another teacher, of \['S', 'L'\].*Write for"):
        make_plan(teachers=teachers, cells=[{"teacher": "X"}], **changes)
