"""Files that a run reads and leaves: recipes, checkpoints, logs and cards."""

import json
import shutil

from checkpointed_runs import make_run
from recipe_runs import ROOT, distill_parser

from hf_clip_kd.hub.cards import render_card
from hf_clip_kd.recipe_io.results import METRICS_NAME, read_written_lines
from hf_clip_kd.training.checkpoint_files import has_optimizer, last_complete, mark_complete, read_run
from recipes import study

from .caches import write_cache
from .kind import Kind, made_once

CONFIGS = ROOT / "recipes/configs"


def write_checkpoint(folder):
    for step in (5, 10):
        inside = folder / f"checkpoint-{step}"
        inside.mkdir(parents=True)
        (inside / "optimizer.pt").write_bytes(b"o" * 50)
        (inside / "model.safetensors").write_bytes(b"w" * 50)
        mark_complete(inside, {"engine": "ddp", "arguments": {"learning_rate": 0.1}})


def read_checkpoint(folder):
    found = last_complete(folder)
    return None if found is None else (found.name, read_run(found), has_optimizer(found))


def write_resumable(folder):
    def make(made):
        make_run(made, ema_decay=0.9, max_steps=3).train()
        for step in (1, 3):
            shutil.rmtree(made / f"checkpoint-{step}")

    made_once("resumable", folder, make)


def resume(folder):
    """Train the last step again, with all that the checkpoint holds."""
    run = make_run(folder, ema_decay=0.9, max_steps=3)
    run.train(resume_from_checkpoint="auto")
    return run.state.global_step, [values.tolist() for values in run.model.state_dict().values()]


def write_run(name):
    return lambda folder: shutil.copytree(ROOT / "model_cards/runs" / name, folder, dirs_exist_ok=True)


def write_cache_of_a_card(folder):
    write_cache(folder)
    shutil.copyfile(CONFIGS / "cache_teacher/demo.yaml", folder / "recipe.yaml")


def write_log(folder):
    rows = [{"step": step, "loss": 1 / step, "epoch": 0.5 * step} for step in range(1, 4)]
    (folder / METRICS_NAME).write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_recipe(script, name):
    return lambda folder: (folder / "recipe.yaml").write_bytes((CONFIGS / script / f"{name}.yaml").read_bytes())


def read_distill(folder):
    script, training = distill_parser(CONFIGS / "distill/demo.yaml").parse(
        ["--config", str(folder / "recipe.yaml"), "--use_cpu", "true"]
    )
    return repr(script), repr(training.losses)


def read_study_yaml(folder):
    _, _, plan = study.read_plan(["--config", str(folder / "recipe.yaml")])
    return [str(cell) for cell in plan.cells]


KINDS = {
    "checkpoints": Kind("checkpoints", write_checkpoint, read_checkpoint),
    "checkpoint, resumed": Kind(
        "checkpoints", write_resumable, resume, checked=True, by_folder=True, slow=True, spared=(".jsonl",)
    ),
    "log": Kind("results, studies and cards", write_log, lambda folder: read_written_lines(folder / METRICS_NAME)),
    "card": Kind("results, studies and cards", write_run("demo_distilled"), render_card),
    "card of a LLaVA": Kind("results, studies and cards", write_run("vlm_demo_distilled"), render_card),
    "card of a cache": Kind(
        "results, studies and cards", write_cache_of_a_card, render_card, spared=(".safetensors",)
    ),
    "recipe of distill": Kind("YAMLs of recipes and studies", write_recipe("distill", "demo"), read_distill),
    "YAML of a study": Kind("YAMLs of recipes and studies", write_recipe("study", "miniature"), read_study_yaml),
}
