"""The first minute: what a bare import, `distill.py --help` and a wrong argument load, in a fresh process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Modules that a fresh process loads beyond transformers' own classes, after each step.
SCRIPT = """
import json, os, runpy, sys
from transformers import (
    AutoConfig, AutoModel, AutoModelForZeroShotImageClassification, AutoProcessor, CLIPModel, CLIPProcessor
)
found = {}

def note(step, before):
    found[step] = sorted(set(sys.modules) - before)

before = set(sys.modules)
import hf_clip_kd
note("import", before)
from transformers import TrainingArguments, HfArgumentParser, set_seed
before = set(sys.modules)
for arguments in json.loads(sys.argv[1]):
    if os.fork():  # The import takes nearly all of the time, so a fork gives each answer.
        os.wait()
        continue
    out, code = sys.stdout, 0
    sys.stdout, sys.argv = open("/dev/null", "w"), ["distill.py", *arguments]
    try:
        runpy.run_path("recipes/distill.py", run_name="__main__")
    except SystemExit as end:
        code = end.code or 0
    note("answer", before)
    print(json.dumps(found | {"code": code}), file=out, flush=True)
    os._exit(0)
"""
# Arguments -> code with which the recipe ends.
ANSWERED = {("--help",): 0, ("--max_stepz", "3"): 2}


@pytest.fixture(scope="module")
def answers():
    command = [sys.executable, "-c", SCRIPT, json.dumps([*ANSWERED])]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return dict(zip(ANSWERED, map(json.loads, run.stdout.splitlines()), strict=True))


@pytest.fixture(params=ANSWERED, ids=" ".join)
def loaded(request, answers):
    found = answers[request.param]
    assert found["code"] == ANSWERED[request.param]
    return found


def test_import_loads_what_it_registers_and_no_more(loaded):
    registered = ["configuration_reduced_tower", "configuration_timm_clip", "levels"]
    registered += ["modeling_reduced_tower", "modeling_timm_clip"]
    folders = ["hf_clip_kd", "hf_clip_kd.models", "hf_clip_kd.models.timm_clip"]
    assert loaded["import"] == [*folders, *(f"hf_clip_kd.models.timm_clip.{name}" for name in registered)]


def test_an_answer_loads_arguments_and_no_more(loaded):
    folders = {module.split(".")[1] for module in loaded["answer"] if module.startswith("hf_clip_kd.")}
    assert folders == {"data", "distillation", "recipe_io", "training"}
    foreign = {module.split(".")[0] for module in loaded["answer"]} - sys.stdlib_module_names
    assert foreign <= {"hf_clip_kd", "filelock", "yaml", "_yaml", "accelerate", "transformers", "__main__"}
