"""Draw what waits for what in a step: the spans of a few steps, online and from a teacher cache.

python recipes/maintenance/timeline.py                          # B/16 → T/16, two minutes, docs/img/timeline*.svg
python recipes/maintenance/timeline.py --student shapes-vit-t   # a miniature, in seconds
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPConfig, CLIPModel, TrainerCallback

import hf_clip_kd as kd
from hf_clip_kd.recipe_io.parser import exit_with_one_line
from hf_clip_kd.study.report.figures import canvas

ROOT = Path(__file__).parents[2]
# Lanes, the first at the top. It is that of the worker, the others are those of the main process.
LANES = ("worker decodes", "waits for data", "teacher", "student and losses", "optimizer")
STEPS, SHOWN = 9, range(3, 6)  # The worker is ahead by a few batches, in the middle as at any time.
# Sizes of a ViT-B/16 and its text tower.
VISION = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
TEXT = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8}

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
    trainer.train()
    # The run is too short to log, so the clock has kept its spans. The teacher runs at the start of a step.
    taught, steps = trainer.throughput.clock.spans["teacher"], trainer.throughput.clock.spans["step"]
    watch.spans["teacher"] = taught
    watch.spans["student and losses"] = [(end, stop) for (_, end), (_, stop) in zip(taught, steps, strict=True)]
    first, last = watch.spans["waits for data"][SHOWN[0]][0], watch.spans["optimizer"][SHOWN[-1]][1]
    shown = {lane: [(a, b) for a, b in spans if b > first and a < last] for lane, spans in watch.spans.items()}
    return {lane: [(max(a, first) - first, min(b, last) - first) for a, b in spans] for lane, spans in shown.items()}


def measure(student: str, batch: int) -> dict[str, dict[str, list[Span]]]:
    """Return the spans of the online and of the cached step."""
    torch.manual_seed(0)
    model, processor = kd.load_clip(student)
    if student == "ViT-T-16":
        vision = {**VISION, "image_size": 224, "patch_size": 16}
        model = CLIPModel(CLIPConfig(vision_config=vision, text_config=TEXT, projection_dim=512))
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
    """Measure, draw the figure in all its forms, and return its files. The spans lie in a JSON beside them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", default="ViT-T-16", help="Preset of the student. Default: ViT-T-16.")
    parser.add_argument("--batch", type=int, default=32, help="Pairs of a step. Default: 32.")
    parser.add_argument("--folder", default=str(ROOT / "docs" / "img"), help="Folder of the figure.")
    given = parser.parse_args(argv)
    found = measure(given.student, given.batch)
    files = canvas.save(lambda narrow: draw(found, narrow), Path(given.folder), "timeline")
    facts = {"student": given.student, "batch": given.batch, "threads": torch.get_num_threads(), "spans": found}
    Path(given.folder, "timeline.json").write_text(json.dumps(facts) + "\n")
    print("\n".join(map(str, files)))
    return files


if __name__ == "__main__":
    exit_with_one_line(main)
