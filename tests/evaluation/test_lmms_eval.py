"""lmms-eval on a local task of 40 questions agrees with our evaluator, question by question.

lmms-eval wants older versions of common libraries, so it runs in a process of an environment of its own. Make one with
`python -m venv FOLDER; FOLDER/bin/pip install -e '.[lmms]' decord` and run
`LMMS_EVAL_PYTHON=FOLDER/bin/python python -m pytest -m slow tests/evaluation/test_lmms_eval.py`. The test of two
processes does without: it calls the adapter as lmms-eval does.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import patch

import pytest
from datasets import DatasetDict
from processes import join, launch, leave
from tiny_llava import make_llava

from hf_clip_kd.data import load_shapes
from hf_clip_kd.evaluation import build_vqa_evaluator
from hf_clip_kd.evaluation.vqa import READERS, generate_answers

ROOT = Path(__file__).parents[2]
PYTHON = os.environ.get("LMMS_EVAL_PYTHON", sys.executable)
ROWS, LENGTH = 40, 16

pytestmark = pytest.mark.slow

FIND_ADAPTER = """
from importlib.metadata import entry_points
import decord, lmms_eval
assert "hf_clip_kd" in {point.name for point in entry_points(group="lmms_eval.models")}, "hf_clip_kd is not installed"
"""


@pytest.fixture(scope="module")
def lmms_eval():
    done = subprocess.run([PYTHON, "-c", FIND_ADAPTER], cwd="/", capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"needs lmms-eval with hf_clip_kd beside it in {PYTHON}: {done.stderr.strip().splitlines()[-1]}")


@pytest.fixture(scope="module", params=["clip", "timm"])
def world(lmms_eval, request, tmp_path_factory):
    """The folder of a model, its answers, and a data set in which every second one of them is right."""
    folder = tmp_path_factory.mktemp(request.param)
    model, processor = make_llava(request.param)
    model.save_pretrained(folder / "vlm")
    processor.save_pretrained(folder / "vlm")
    rows = load_shapes("test", size=ROWS, vqa=True)
    answers = generate_answers(model, processor, READERS["shapes"](rows), max_new_tokens=LENGTH)
    assert len(set(answers)) > ROWS // 2
    rows = rows.map(lambda row, i: {"answers": [answers[i].lower()]} if i % 2 else row, with_indices=True)
    DatasetDict({"test": rows}).save_to_disk(folder / "data")
    shutil.copytree(ROOT / "recipes" / "lmms_tasks", folder / "tasks")
    task = folder / "tasks" / "shapes_vqa" / "shapes_vqa.yaml"
    task.write_text(task.read_text().replace("dataset_path: outputs/lmms/shapes", f"dataset_path: {folder / 'data'}"))
    evaluate = build_vqa_evaluator(
        {"shapes": {"max_new_tokens": LENGTH, "protocol": "lmms_eval"}}, lambda **options: rows
    )
    accuracy = evaluate(model, processor)["shapes"]
    return folder, answers, evaluate.results["shapes"]["scores"], accuracy


# Our adapter, in batches, and lmms-eval's own, which finds our tower by the entry point.
ADAPTERS = {
    "hf_clip_kd": ["--model_args", "pretrained={}/vlm,dtype=float32,device=cpu", "--batch_size", "7"],
    "llava_hf": ["--model_args", "pretrained={}/vlm,dtype=float32,device=cpu,device_map=cpu", "--force_simple"],
}


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_agrees_question_by_question(world, adapter, tmp_path):
    folder, answers, scores, accuracy = world
    flags = [flag.format(folder) for flag in ADAPTERS[adapter]]
    command = [PYTHON, "-m", "lmms_eval", "--model", adapter, *flags, "--tasks", "shapes_vqa"]
    command += ["--include_path", str(folder / "tasks"), "--output_path", str(tmp_path / "out"), "--log_samples"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    # Not in the checkout: the installed package must do.
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | offline, capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, done.stderr[-3000:]
    (file,) = (tmp_path / "out").rglob("*_samples_shapes_vqa.jsonl")
    rows = sorted((json.loads(line) for line in file.read_text().splitlines()), key=lambda row: row["doc_id"])
    assert [row["doc_id"] for row in rows] == list(range(ROWS))
    assert [row["filtered_resps"].strip() for row in rows] == answers
    assert [row["accuracy"] for row in rows] == scores
    (file,) = (tmp_path / "out").rglob("*_results.json")
    found = json.loads(file.read_text())["results"]["shapes_vqa"]["accuracy,none"]
    assert found == pytest.approx(accuracy) and 0.5 <= accuracy < 1


def made_up_lmms_eval():
    """The one class of lmms-eval that the adapter inherits from."""
    modules = {name: ModuleType(name) for name in ("lmms_eval", "lmms_eval.api", "lmms_eval.api.model")}
    modules["lmms_eval.api.model"].lmms = object
    return patch.dict(sys.modules, modules)


def one_of_two(rank, processes, port, folder, model):
    join(rank, processes, port)
    os.environ["ACCELERATE_USE_CPU"] = "true"
    with made_up_lmms_eval():
        from hf_clip_kd.evaluation.lmms_eval.model import ImageTextToText
    lm = ImageTextToText(model, batch_size=2, dtype="float32")
    rows = load_shapes("test", size=ROWS, vqa=True)
    lm.task_dict = {"shapes": {"test": rows}}
    options = {"max_new_tokens": LENGTH}
    requests = [
        SimpleNamespace(args=(rows[i]["question"], options, lambda row: [row["image"]], i, "shapes", "test"))
        for i in range(lm._rank, 7, lm._world_size)  # lmms-eval shares documents so.
    ]
    (Path(folder) / f"{rank}.json").write_text(json.dumps(lm.generate_until(requests)))
    leave()


def test_each_of_two_processes_answers_its_own_documents(tmp_path):
    model, processor = make_llava("clip")
    for part in (model, processor):
        part.save_pretrained(tmp_path / "vlm")
    rows = load_shapes("test", size=ROWS, vqa=True).select(range(7))
    expected = generate_answers(model, processor, READERS["shapes"](rows), max_new_tokens=LENGTH)
    assert len(set(expected)) > 4, "the answers must differ, or this test could not fail"
    launch(one_of_two, 2, tmp_path, str(tmp_path / "vlm"))
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert found == [expected[0::2], expected[1::2]]
