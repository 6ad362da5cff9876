"""Draw what waits for what in a step: the spans of a few steps, online and from a teacher cache.

python tests/bench/timeline.py                           # B/16 → T/16, two minutes, into docs/speed.md
python tests/bench/timeline.py --student shapes-vit-t --teacher small --folder outputs/timeline   # in seconds
"""

import argparse
import json
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from online import TEACHERS, Setting, teacher_model
from transformers import TrainerCallback

import hf_clip_kd as kd
from hf_clip_kd.recipe_io.parser import exit_with_one_line
from hf_clip_kd.recipe_io.results import write_whole
from hf_clip_kd.study.report.figures import canvas
from hf_clip_kd.study.report.report import picture

ROOT = Path(__file__).parents[2]
# Lanes, the first at the top. It is that of the worker, the others are those of the main process.
LANES = ("worker decodes", "waits for data", "teacher", "student and losses", "optimizer")
STEPS, SHOWN = 9, range(3, 6)  # The worker is ahead by a few batches, in the middle as at any time.
PLACE = re.compile(r"(<!-- timeline: [^>]+ -->\n)(.*?)(<!-- end of timeline -->)", re.DOTALL)
FIGURE = f"{picture('img/timeline', 'Spans of the parts of a step, online and from a cache')}\n"

Span = tuple[float, float]


class Timed:
    """A collator that leaves in each batch when it began and ended; all processes have the same clock."""

    def __init__(self, collator: Callable[[list], dict]):
        self.collator, self.processor = collator, collator.processor

    def __call__(self, rows: list) -> dict[str, Any]:
        start = time.perf_counter()
        batch = self.collator(rows)
        return batch | {"made": torch.tensor([start, time.perf_counter()], dtype=torch.float64)}


class Watch(TrainerCallback):
    """Spans of each lane, in the clock of the process."""

    def __init__(self):
        self.spans: dict[str, list[Span]] = {lane: [] for lane in LANES}
        self.asked = self.ready = 0.0

    def watch(self, trainer: kd.DistillationTrainer) -> None:
        """Note what batches tell of their worker."""
        begin = trainer.begin_step

        def begin_step(samples):
            self.spans["worker decodes"] += [tuple(batch.pop("made").tolist()) for batch in samples]
            begin(samples)

        trainer.begin_step = begin_step

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.asked = time.perf_counter()

    def on_step_begin(self, args, state, control, **kwargs):
        self.spans["waits for data"].append((self.asked, time.perf_counter()))

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self.ready = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        self.asked = time.perf_counter()
        self.spans["optimizer"].append((self.ready, self.asked))


def run(student: str, teacher, collator, rows, batch: int, folder: str) -> dict[str, list[Span]]:
    """Train a few steps, and return the spans of each lane. Second 0 is the start of the first shown step."""
    model, processor = kd.load_clip(student)
    watch = Watch()
    args = kd.DistillationTrainingArguments(
        folder,
        per_device_train_batch_size=batch,
        dataloader_num_workers=1,
        num_train_epochs=1,
        logging_steps=1000,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
    )
    trainer = kd.DistillationTrainer(
        model=model,
        args=args,
        teacher_model=teacher,
        train_dataset=rows,
        data_collator=Timed(collator),
        processing_class=processor,
        callbacks=[watch],
    )
    watch.watch(trainer)
    clock = trainer.throughput.clock
    origin = clock._mark(), time.perf_counter()
    trainer.train()
    # The run is too short to log, so the clock has kept its spans. The teacher runs at the start of a step.
    taught, steps = (of_host(clock, origin, name) for name in ("teacher", "step"))
    watch.spans["teacher"] = taught
    watch.spans["student and losses"] = [(end, stop) for (_, end), (_, stop) in zip(taught, steps, strict=True)]
    first, last = watch.spans["waits for data"][SHOWN[0]][0], watch.spans["optimizer"][SHOWN[-1]][1]
    shown = {lane: [(a, b) for a, b in spans if b > first and a < last] for lane, spans in watch.spans.items()}
    return {lane: [(max(a, first) - first, min(b, last) - first) for a, b in spans] for lane, spans in shown.items()}


def of_host(clock, origin: tuple, name: str) -> list[Span]:
    """
    Return the spans of a part in seconds of the host's clock.

    Args:
        clock ([`~hf_clip_kd.training.throughput.Clock`]): The clock of the run.
        origin (`tuple`): A moment by that clock and by the host's.
        name (`str`): Name of the part.
    """
    if clock.device.type == "cpu":
        return clock.spans[name]
    torch.get_device_module(clock.device).synchronize(clock.device)
    event, seconds = origin
    return [tuple(seconds + event.elapsed_time(end) / 1000 for end in span) for span in clock.spans[name]]


def measure(student: str, teacher: str, batch: int) -> dict[str, dict[str, list[Span]]]:
    """Return the spans of the online and of the cached step."""
    _, processor = kd.load_clip(student)
    model = teacher_model(Setting(student=student, teacher=teacher))
    teacher = kd.CLIPTeacher(model, processor=processor)
    size = model.config.vision_config.image_size
    rows = kd.load_image_text("shapes", max_samples=batch * STEPS, image_size=size)
    with tempfile.TemporaryDirectory() as folder:
        views = kd.AugmentationCollator(processor)
        cache = kd.CacheWriter(f"{folder}/cache", teacher, views, rows, {}, batch_size=batch).write()
        online = kd.CLIPDataCollator(processor, teacher.processor)
        return {
            "online": run(student, teacher, online, rows, batch, folder),
            "cached": run(student, cache, kd.ReplayCollator(processor, cache), rows, batch, folder),
        }


def draw(found: dict[str, dict[str, list[Span]]], narrow: bool):
    """Draw a panel of each kind of step, with a lane for each part."""
    figure, axes = canvas.panels(len(found), narrow, height=1.7, columns=1)
    end = max(b for spans in found.values() for lane in spans.values() for _, b in lane)
    for panel, (kind, spans) in zip(axes, found.items(), strict=True):
        for place, lane in enumerate(LANES):
            panel.broken_barh([(a, b - a) for a, b in spans[lane]], (place - 0.4, 0.8), color=f"C{place}")
        panel.set(title=f"{kind} step", xlim=(0, end), yticks=range(len(LANES)), yticklabels=LANES)
        panel.set_ylim(len(LANES) - 0.5, -0.5)  # the first lane at the top
        panel.grid(axis="y", visible=False)
    axes[-1].set_xlabel("seconds")
    return figure


def main(argv: list[str] | None = None) -> list[Path]:
    """
    Measure, draw the figure in all its forms, and return its files. The spans lie in a JSON beside them.

    If `speed.md` lies beside the folder, the figure goes into its place there.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", default="ViT-T-16", help="Preset of the student. Default: ViT-T-16.")
    parser.add_argument("--teacher", default="B/16", choices=TEACHERS, help="Size of the teacher. Default: B/16.")
    parser.add_argument("--batch", type=int, default=32, help="Pairs of a step. Default: 32.")
    parser.add_argument("--folder", default=str(ROOT / "docs" / "img"), help="Folder of the figure.")
    given = parser.parse_args(argv)
    found = measure(given.student, given.teacher, given.batch)
    files = canvas.save(lambda narrow: draw(found, narrow), Path(given.folder), "timeline")
    facts = {name: getattr(given, name) for name in ("student", "teacher", "batch")}
    facts |= {"threads": torch.get_num_threads(), "spans": found}
    write_whole(Path(given.folder, "timeline.json"), json.dumps(facts) + "\n")
    page = Path(given.folder).parent / "speed.md"
    if page.is_file():
        written = PLACE.sub(lambda old: f"{old[1]}{FIGURE}{old[3]}", page.read_text(encoding="utf-8"))
        write_whole(page, written)
    print("\n".join(map(str, files)))
    return files


if __name__ == "__main__":
    exit_with_one_line(main)
