"""
Train for very many steps as a long run does, and watch memory, open files and time.

    python tests/survival/soak.py --steps 20000

writes outputs/survival/soak.json, a row for each quantity, the readings beside it, and the figure docs/img/soak.
Fewer than 20,000 steps write nothing. A second run loses a worker now and then. It must end in words that say so,
and go on when it is started again. The command ends in an error where something grew or was lost.
`make soak STEPS=20000` sets the paths.
"""

import argparse
import json
import multiprocessing
import random
import re
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import psutil
import torch
from miniature import AnyTeacher, make_args
from tar_files import write_tars
from transformers import TrainerCallback

from hf_clip_kd.data import CLIPDataCollator, Stream, load_image_text
from hf_clip_kd.distillation.trainer import DistillationTrainer
from hf_clip_kd.models import load_clip
from hf_clip_kd.study.report.figures.canvas import legend, panels, save

ROOT = Path(__file__).parents[2]
OUTPUT, FIGURES = ROOT / "outputs/survival", ROOT / "docs/img"
WORKERS, READINGS, STEPS = 2, 200, 20_000
# Largest changes between the second and the last quarter of a run.
# Other programs disturb the time of a step. So it is the time of the processor, of the fastest step in each reading.
# The median tells of steps that are slow now and then.
ALLOWED = {
    "memory of the main process": 0.02,
    "memory of the workers": 0.02,
    "open files": 0.0,
    "open files of the workers": 0.0,
    "fastest step": 0.1,
    "median step": 0.2,
}
EVERY = 250  # steps between two evaluations and savings
LIFE = 100  # most steps until a worker is killed
PATIENCE = 600  # seconds until a run with a dead worker hangs


def held(process):
    """Return the megabytes that a process has written to, also those that it shares with its children."""
    # Linux takes mapped files out of memory and back again. A page that a fork shares is written to at any time.
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) / 1000


def workers_of(process):
    return [child for child in process.children() if child.name().startswith(("python", "pt_data"))]


class Readings(TrainerCallback):
    """Read what the processes of a run hold, every so many steps."""

    def __init__(self, every):
        self.every, self.rows, self.main = every, [], psutil.Process()
        self.steps = []

    def on_step_begin(self, args, state, control, **kwargs):
        self.begin = time.process_time()

    def on_step_end(self, args, state, control, **kwargs):
        self.steps.append(time.process_time() - self.begin)
        if state.global_step % self.every:
            return
        workers = workers_of(self.main)
        self.rows.append(
            {
                "at": state.global_step,
                "memory of the main process": held(self.main),
                "memory of the workers": sum(map(held, workers)),
                "workers": len(workers),
                "open files": self.main.num_fds(),
                "open files of the workers": sum(child.num_fds() for child in workers),
                "fastest step": 1000 * min(self.steps),
                "median step": 1000 * statistics.median(self.steps),
            }
        )
        self.steps.clear()


def make_run(folder, steps, every=EVERY):
    """A student on a stream of pictures with workers, GradCache, an average, evaluations, savings and a log."""
    if not (folder / "tars").exists():
        write_tars(folder / "tars", (40, 30, 50, 20))
    student, processor = load_clip("test-vit")
    tars = load_image_text("webdataset", data_files=str(folder / "tars/*.tar"), streaming=True)
    args = make_args(
        folder / "run",
        losses={"clip": 1.0, "crd": 1.0, "fd": 1.0},
        max_steps=steps,
        learning_rate=1e-4,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        dataloader_num_workers=WORKERS,
        ema_decay=0.99,
        logging_steps=50,
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
    )
    return DistillationTrainer(
        student,
        args,
        AnyTeacher(load_clip("test-vit")[0]),
        Stream(tars, seed=1, buffer_size=16),
        load_image_text("shapes", max_samples=8),
        data_collator=CLIPDataCollator(processor, crop_scale=(0.3, 1.0), flip=0.5),
        eval_data_collator=CLIPDataCollator(processor, train=False),
    )


class KillWorker(TrainerCallback):
    """Kill a worker after so many steps of this life, as the system does where memory runs out."""

    def __init__(self, steps):
        self.left = steps

    def on_step_end(self, args, state, control, **kwargs):
        self.left -= 1
        if self.left == 0:
            random.choice(workers_of(psutil.Process())).kill()


def live(folder, steps, life):
    """Train on from the last checkpoint, and leave the words of the end."""
    # A spawned worker would import everything at each evaluation.
    multiprocessing.set_start_method("fork", force=True)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    run = make_run(Path(folder), steps, every=10)
    run.add_callback(KillWorker(life))
    try:
        run.train(resume_from_checkpoint="auto")
        words = "done"
    except RuntimeError as error:
        words = str(error)
    Path(folder, "words").write_text(words)


def worker_deaths(folder, steps):
    """
    Kill a worker again and again until the training has ended.

    Returns the number of deaths, a sentence for each that was not told, and the number of lives that hung.
    """
    chance, context, deaths, lost, hangs = random.Random(0), multiprocessing.get_context("spawn"), 0, [], 0
    while not lost:
        (folder / "words").unlink(missing_ok=True)
        process = context.Process(target=live, args=(str(folder), steps, chance.randint(15, LIFE)))
        process.start()
        process.join(PATIENCE)
        if process.is_alive():
            process.kill()
            process.join()
            hangs += 1
        words = (folder / "words").read_text() if (folder / "words").exists() else f"exit code {process.exitcode}"
        if words == "done":
            break
        deaths += 1
        if not words.startswith("A dataloader worker has died"):
            lost.append(f"death {deaths}: {words}")
    return deaths, lost, hangs


def change(rows, name):
    """Return the change of a quantity from the second to the last quarter of a run, as a share."""
    quarter = max(1, len(rows) // 4)
    early, late = (
        statistics.median(row[name] for row in part) for part in (rows[quarter : 2 * quarter], rows[-quarter:])
    )
    return late / early - 1


def log_faults(run, steps):
    """Return what is wrong with metrics.jsonl: it must have each log once, in order."""
    lines = Path(run.args.output_dir, "metrics.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    found = [entry["step"] for entry in entries if "loss" in entry]
    scored = [entry["step"] for entry in entries if "eval_loss" in entry]
    return int(found != [*range(50, steps + 1, 50)]) + int(scored != [*range(EVERY, steps + 1, EVERY)])


def draw(rows, narrow):
    """Draw memory, files and time over the steps, each as a multiple of its median in the second quarter."""
    figure, (axes,) = panels(1, narrow, height=2.4)
    quarter = max(1, len(rows) // 4)
    for number, name in enumerate(ALLOWED):
        measure = statistics.median(row[name] for row in rows[quarter : 2 * quarter])
        said = f"processor time of the {name}" if "step" in name else name
        axes.plot([row["at"] for row in rows], [row[name] / measure for row in rows], f"C{number}", label=said, lw=1)
    axes.set(xlabel="optimizer steps", ylabel="relative to the second quarter")
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.8), max(high, 1.2))  # A flat run must look flat.
    legend(figure, axes, narrow)
    return figure


def main(argv=None):
    """Soak, judge, draw, and write the JSON. Returns what grew or was lost, in words."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--steps", type=int, default=STEPS, help="Optimizer steps.")
    steps = flags.parse_args(argv).steps
    if steps % EVERY:
        flags.error(f"--steps {steps} is no multiple of {EVERY}.")
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(prefix="soak_") as folder:
        run = make_run(Path(folder), steps)
        readings = Readings(max(1, steps // READINGS))
        run.add_callback(readings)
        run.train()
        faults = log_faults(run, steps)
    with tempfile.TemporaryDirectory(prefix="soak_deaths_") as folder:
        deaths, lost, hangs = worker_deaths(Path(folder), min(steps, 10 * LIFE))
    rows = readings.rows
    changes = {name: round(change(rows, name), 4) for name in ALLOWED}
    grown = [name for name, allowed in ALLOWED.items() if abs(changes[name]) > allowed]
    if len({row["workers"] for row in rows}) > 1:
        grown.append("number of workers")
    command = f"make soak STEPS={steps}"
    told = [
        {"what": f"a soak: {name}", "tried": steps, "lost": int(name in grown), "command": command} for name in ALLOWED
    ]
    told.append({"what": "a soak: metrics.jsonl", "tried": steps, "lost": faults, "command": command})
    dead = {"what": "a soak: workers that were killed", "tried": deaths, "lost": len(lost), "hangs": hangs}
    told.append(dead | {"command": command})
    if steps >= STEPS:
        OUTPUT.mkdir(parents=True, exist_ok=True)
        for name, found in (("soak", told), ("soak_readings", rows)):
            (OUTPUT / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
        save(partial(draw, rows), FIGURES, "soak")
    print(json.dumps(changes | {"dead workers": deaths}, indent=1))
    faults = [f"metrics.jsonl has {faults} faults"] if faults else []
    return [*(f"{name} changed" for name in grown), *faults, *lost]


if __name__ == "__main__":
    if found := main():
        sys.exit(f"error: {'; '.join(found)}.")
