"""
Train for very many steps as a long run does, and watch memory, open files and time.

    python tests/survival/soak.py --steps 20000

writes outputs/survival/soak.json, a row for each quantity, the readings beside it, and the figure docs/figures/soak.
It ends in an error where something grew. `make soak STEPS=20000` sets the paths.
"""

import argparse
import json
import re
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import psutil
import torch
from miniature import Teacher, make_args
from tar_files import write_tars
from transformers import TrainerCallback

from hf_clip_kd.data import CLIPDataCollator, Stream, load_image_text
from hf_clip_kd.distillation.trainer import DistillationTrainer
from hf_clip_kd.models import load_clip
from hf_clip_kd.study.report.figures.canvas import legend, panels, save

ROOT = Path(__file__).parents[2]
OUTPUT, FIGURES = ROOT / "outputs/survival", ROOT / "docs/figures"
WORKERS, READINGS = 2, 200
# Largest changes between the second and the last quarter of a run.
# Other programs disturb the time of a step. So it is the time of the processor, of the fastest step in each reading.
ALLOWED = {"memory of the main process": 0.02, "memory of the workers": 0.02, "open files": 0.0, "step": 0.1}
EVERY = 250  # steps between two evaluations and savings


class AnyTeacher(Teacher):
    def prepare(self, request):
        pass

    def forward(self, pixel_values, input_ids, **others):
        return super().forward(pixel_values, input_ids)


def held(process):
    """Return the megabytes that a process has written to, also those that it shares with its children."""
    # Linux takes mapped files out of memory and back again. A page that a fork shares is written to at any time.
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) / 1000


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
        workers = [child for child in self.main.children() if child.name().startswith(("python", "pt_data"))]
        self.rows.append(
            {
                "at": state.global_step,
                "memory of the main process": held(self.main),
                "memory of the workers": sum(map(held, workers)),
                "workers": len(workers),
                "open files": self.main.num_fds(),
                "step": 1000 * min(self.steps),
            }
        )
        self.steps.clear()


def make_run(folder, steps):
    """A student on a stream of pictures with workers, GradCache, an average, evaluations, savings and a log."""
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
        eval_steps=EVERY,
        save_strategy="steps",
        save_steps=EVERY,
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
        said = "processor time of a step" if name == "step" else name
        axes.plot([row["at"] for row in rows], [row[name] / measure for row in rows], f"C{number}", label=said, lw=1)
    axes.set(xlabel="optimizer steps", ylabel="relative to the second quarter", ylim=(0.8, 1.2))
    legend(figure, axes, narrow)
    return figure


def main():
    """Soak, judge, draw, and write the JSON."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--steps", type=int, default=20_000, help="Optimizer steps.")
    steps = flags.parse_args().steps
    if steps % EVERY:
        flags.error(f"--steps {steps} is no multiple of {EVERY}.")
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(prefix="soak_") as folder:
        run = make_run(Path(folder), steps)
        readings = Readings(max(1, steps // READINGS))
        run.add_callback(readings)
        run.train()
        faults = log_faults(run, steps)
    rows = readings.rows
    changes = {name: round(change(rows, name), 4) for name in ALLOWED}
    grown = [name for name, allowed in ALLOWED.items() if abs(changes[name]) > allowed]
    if len({row["workers"] for row in rows}) > 1:
        grown.append("number of workers")
    command = f"make soak STEPS={steps}"
    told = [
        {"what": f"a soak: {name}", "tried": steps, "lost": int(name in grown), "command": command} for name in ALLOWED
    ]
    told.append({"what": "a soak: `metrics.jsonl`", "tried": steps, "lost": faults, "command": command})
    OUTPUT.mkdir(parents=True, exist_ok=True)
    for name, found in (("soak", told), ("soak_readings", rows)):
        (OUTPUT / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    save(partial(draw, rows), FIGURES, "soak")
    print(json.dumps(changes, indent=1))
    if grown or faults:
        sys.exit(f"error: {', '.join(grown)} changed, metrics.jsonl has {faults} faults.")


if __name__ == "__main__":
    main()
