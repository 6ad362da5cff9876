"""Launches of stages: what of an accelerate file changes the outcome."""

from pathlib import Path

import pytest
import yaml
from tiny_study import TINY

from hf_clip_kd.recipe_io.foreign import ForeignFileError
from hf_clip_kd.study.running.arguments import StudyArguments
from hf_clip_kd.study.running.launch import launch_of
from hf_clip_kd.study.running.plan import Plan

ROOT = Path(__file__).parents[3]
LIFTED = {"lift": "S", "recipe": "shapes/lift.yaml"}


def file(name):
    return str(ROOT / f"accelerate_configs/{name}.yaml")


def make_plan(accelerate_config):
    """Return the plan of a study with a stage of each kind."""
    teachers = TINY["teachers"] | {"S_lifted": LIFTED}
    changes = {"output_dir": "out", "teachers": teachers, "cells": [{"teacher": ["S", "S_lifted"]}]}
    changes |= {"vqa": "paper/vqa.yaml", "accelerate_config": accelerate_config}
    return Plan(StudyArguments(**(TINY | changes)), ROOT / "recipes/configs/study")


@pytest.mark.parametrize(
    ("path", "launch"),
    [
        (None, {}),
        (file("single_gpu"), {}),
        (file("cpu"), {}),
        (file("multi_gpu"), {"distributed_type": "MULTI_GPU", "num_processes": 8}),
        (file("zero3"), {"distributed_type": "DEEPSPEED", "num_processes": 8}),
        (file("two_nodes"), {"distributed_type": "MULTI_GPU", "num_processes": 16}),
    ],
    ids=lambda value: Path(value).stem if isinstance(value, str) else None,
)
def test_one_process_is_plain_python_and_others_are_told_apart(path, launch):
    assert launch_of(path) == launch


@pytest.mark.parametrize(
    ("content", "launch"),
    [
        ({"distributed_type": False, "num_processes": 4, "mixed_precision": False}, {}),  # YAML reads a bare NO so.
        ({"distributed_type": "NO", "mixed_precision": "bf16"}, {"mixed_precision": "bf16"}),
        ({"distributed_type": "MULTI_GPU", "num_processes": 2, "debug": True},
         {"distributed_type": "MULTI_GPU", "num_processes": 2}),
    ],
    ids=["bare_no", "bf16", "two"],
)  # fmt: skip
def test_what_a_file_leaves_out_is_the_usual(tmp_path, content, launch):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(content))
    assert launch_of(str(path)) == launch


def test_a_missing_file_is_told_before_the_study():
    with pytest.raises(ForeignFileError, match=r"no/such\.yaml.*Correct `accelerate_config`"):
        make_plan("no/such.yaml")


def test_more_processes_make_launched_stages_anew_and_no_others():
    """A student of eight processes learned with another contrastive batch than one of a single process."""
    plain, single, several = (make_plan(path).stages for path in (None, file("single_gpu"), file("multi_gpu")))
    assert [stage.id for stage in plain] == [stage.id for stage in single]
    launched = {"teacher", "student", "lift", "cache", "evaluate", "vlm", "vqa"}
    assert {stage.kind for stage in plain} == launched | {"language_model", "cost"}
    kept = {stage.id for stage in plain} & {stage.id for stage in several}
    assert {stage.kind for stage in plain if stage.id in kept} == {"language_model", "cost"}
    assert len(kept) == sum(stage.kind not in launched for stage in plain)
