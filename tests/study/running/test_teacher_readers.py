"""Objectives whose reader is a vision-language model that the study makes of the teacher."""

from pathlib import Path

import pytest
import yaml
from tiny_study import TINY

from hf_clip_kd.study.running.arguments import StudyArguments
from hf_clip_kd.study.running.grid import Reader
from hf_clip_kd.study.running.plan import Plan
from hf_clip_kd.study.running.stages import Stage
from hf_clip_kd.study.running.teacher_readers import with_readers, without_readers

CONFIGS = Path(__file__).parents[3] / "recipes/configs/study"
LOSS = "reading_loss.ReadingLoss"
OBJECTIVES = TINY["objectives"] | {"reader": {"clip": 1.0, LOSS: {"weight": 2.0, "reader": "teacher"}}}
CELLS = [{"teacher": "S", "objective": ["clip_kd", "reader"]}]


def make_plan(**changes):
    changes = {"output_dir": "out", "objectives": OBJECTIVES, "cells": CELLS} | changes
    return Plan(StudyArguments(**(TINY | changes)), CONFIGS)


def students(plan):
    return {cell.objective: measured.training for cell, measured in plan.cells.items()}


def llava(name):
    return Stage("vlm", {"language_model": name})


@pytest.mark.parametrize(
    ("given", "told", "made"),
    [
        ("teacher", llava(None).output, [None]),
        ({"name": "teacher", "layers": 2}, {"name": llava(None).output, "layers": 2}, [None]),
        ({"name": "teacher", "language_model": "b"}, llava("b").output, ["b"]),
        (["teacher", "outputs/captioner"], [llava(None).output, "outputs/captioner"], [None]),
        ("outputs/captioner", "outputs/captioner", []),
        (None, None, []),
    ],
)
def test_the_name_teacher_becomes_a_folder(given, told, made):
    losses, stages = with_readers({"clip": 1.0, "reader": {"weight": 2, "reader": given}}, llava)
    assert losses == {"clip": 1.0, "reader": {"weight": 2, "reader": told}}
    assert list(stages) == [llava(name) for name in made]


def test_other_losses_stay_as_they_are():
    for losses in ("clip_kd", {"clip_kd": 1.0, "patch": {"weight": 5.0}}):
        assert with_readers(losses, llava) == (losses, ()) and without_readers(losses) == losses
    assert without_readers({"reader": {"weight": 2, "reader": "teacher"}}) == {"reader": {"weight": 2}}


def test_a_student_waits_for_the_reader_that_measures_its_teacher(tmp_path):
    plan = make_plan()
    training, teacher = students(plan)["reader"], plan.teachers["S", Reader("tiny", "default", None)]
    assert training.arguments["losses"][LOSS] == {"weight": 2.0, "reader": teacher.vqa.output}
    assert teacher.vqa in training.needs and teacher.vqa not in students(plan)["clip_kd"].needs
    told = yaml.safe_load(training.write_arguments(tmp_path).read_text())
    assert told["losses"][LOSS]["reader"] == str(tmp_path / teacher.vqa.output)
    order = [stage.id for stage in plan.stages]
    assert order.index(teacher.vqa.id) < order.index(training.id)
    # The teacher has this model in a study without the objective, too: a student more is three stages more.
    without = make_plan(cells=[{"teacher": "S"}])
    assert {stage.id for stage in without.stages} <= {*order} | {cache_of(without).id}
    assert len(order) == len(without.stages) + 3


def cache_of(plan):
    (cache,) = (stage for stage in plan.stages if stage.kind == "cache")
    return cache


def test_the_projector_is_that_of_the_model_that_measures_the_teacher(tmp_path):
    """The cache and the student get the teacher with the tokens of its own vision-language model."""
    losses = {"clip": 1.0, "patch": {"teacher_layer": "projector"}}
    plan = make_plan(
        objectives=OBJECTIVES | {"projected": losses}, cells=[{"teacher": "S", "objective": ["clip_kd", "projected"]}]
    )
    training, plain = students(plan)["projected"], students(plan)["clip_kd"]
    llava = plan.teachers["S", Reader("tiny", "default", None)].vqa
    (cache,) = (need for need in training.needs if need.kind == "cache")
    named = {"name": plain.arguments["teacher_model_name_or_path"], "tokens_from": llava.output}
    for stage in (training, cache):
        assert stage.arguments["teacher_model_name_or_path"] == named and llava in stage.needs
    (other,) = (need for need in plain.needs if need.kind == "cache")
    assert cache.arguments["losses"] == losses and other.arguments["losses"] == "clip_kd" and llava not in plain.needs
    told = yaml.safe_load(training.write_arguments(tmp_path).read_text())
    assert told["teacher_model_name_or_path"]["tokens_from"] == str(tmp_path / llava.output)


def test_a_changed_reader_makes_its_students_again_and_no_others():
    plain = students(make_plan())
    (stage,) = TINY["vlm"]
    longer = students(make_plan(vlm=[stage | {"max_steps": 6}]))
    assert plain["reader"].id != longer["reader"].id and plain["clip_kd"].id == longer["clip_kd"].id


def test_one_cache_serves_whoever_reads():
    plan = make_plan(cells=[{"teacher": "S", "objective": ["clip_kd", "reader"]}])
    cache = cache_of(plan)
    assert cache.arguments["losses"] == {"clip": 1.0, LOSS: {"weight": 2.0}}
    assert {need.kind for need in cache.needs} == {"teacher"}


def test_the_reader_does_not_change_with_the_language_model_of_the_cell():
    """A second language model reads the very same student, which has not seen it."""
    models = TINY["language_models"] | {"second": "org/other"}
    cells = [{"teacher": "S", "objective": "reader", "language_model": ["tiny", "second"]}]
    plan = make_plan(language_models=models, cells=cells)
    assert len({measured.training.id for measured in plan.cells.values()}) == 1
    named = {"reader": OBJECTIVES["reader"] | {LOSS: {"reader": {"name": "teacher", "language_model": "second"}}}}
    other = make_plan(language_models=models, cells=cells, objectives=named)
    (training,) = {measured.training for measured in other.cells.values()}
    second = plan.teachers["S", Reader("second", "default", None)]
    assert training.arguments["losses"][LOSS] == {"reader": second.vqa.output}


def test_the_reader_of_several_stages_is_the_last_training():
    (stage,) = TINY["vlm"]
    silent = stage | {"evaluation": None}
    plan = make_plan(vlm=[silent, silent | {"max_steps": 2}], vqa={"recipe": "paper/vqa.yaml"})
    training, teacher = students(plan)["reader"], plan.teachers["S", Reader("tiny", "default", None)]
    (last,) = teacher.vqa.needs
    assert training.arguments["losses"][LOSS]["reader"] == last.output and last in training.needs


def test_an_unknown_language_model_is_told():
    named = {"reader": {LOSS: {"reader": {"name": "teacher", "language_model": "third"}}}}
    with pytest.raises(ValueError, match=r"language model 'third' .*`language_models` has \['tiny'\].*Correct it"):
        make_plan(objectives=named, cells=[{"teacher": "S"}])
