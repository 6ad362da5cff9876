"""The first minute: what a bare import and `distill.py --help` load, in a fresh process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Modules that a fresh process loads beyond transformers' own classes, after each step.
SCRIPT = """
import json, runpy, sys
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
out, sys.stdout, sys.argv = sys.stdout, open("/dev/null", "w"), ["distill.py", "--help"]
try:
    runpy.run_path("recipes/distill.py", run_name="__main__")
except SystemExit as end:
    assert not end.code
note("help", before)
print(json.dumps(found), file=out)
"""


@pytest.fixture(scope="module")
def loaded():
    run = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def test_import_loads_what_it_registers_and_no_more(loaded):
    registered = ["configuration_reduced_tower", "configuration_timm_clip", "levels"]
    registered += ["modeling_reduced_tower", "modeling_timm_clip"]
    folders = ["hf_clip_kd", "hf_clip_kd.models", "hf_clip_kd.models.timm_clip"]
    assert loaded["import"] == [*folders, *(f"hf_clip_kd.models.timm_clip.{name}" for name in registered)]


def test_help_loads_arguments_and_no_more(loaded):
    folders = {module.split(".")[1] for module in loaded["help"] if module.startswith("hf_clip_kd.")}
    assert folders == {"data", "distillation", "recipe_io", "training"}
    foreign = {module.split(".")[0] for module in loaded["help"]} - sys.stdlib_module_names
    assert foreign <= {"hf_clip_kd", "filelock", "yaml", "_yaml", "accelerate", "transformers", "__main__"}
