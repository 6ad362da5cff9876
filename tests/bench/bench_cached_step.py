"""
Time of a step with a cached teacher, compared with steps without a teacher and with a live teacher.

    python tests/bench/bench_cached_step.py

writes outputs/bench/cached_step.json. A ViT-B/16 teaches a ViT-T/16 at 224 pixels. All three steps decode, crop and
tokenize the same pictures in the main process, and train with the same losses. The step without a teacher takes the
teacher's features from memory.
"""

import logging
import os
import statistics
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from report import machine, row, write
from step_times import step_seconds

import hf_clip_kd as kd

STUDENT, TEACHER = "ViT-T-16", {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
LOSSES = {"clip": 1.0, "crd": 1.0, "icl": 1.0, "fd": 4.0}
BATCH, WARM_UP, STEPS, REPEATS = 32, 1, 4, 5
TRAINING = {"losses": LOSSES, "batch": BATCH, "steps": STEPS, "warm_up": WARM_UP}
VIEWS = {"crop_scale": (0.9, 1.0), "seed": 0}


class InMemory:
    """A teacher whose features lie there already, the same for every batch."""

    def __init__(self, teacher, features):
        self.dims, self.features = teacher.dims, features

    def prepare(self, request):
        pass

    def place(self, device):
        pass

    def of_batch(self, batch):
        return self.features


def make_teacher():
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(1)
    processor = kd.load_clip(STUDENT)[1]
    vision = {**TEACHER, "intermediate_size": 3072, "image_size": 224, "patch_size": 16}
    text = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8}
    model = CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=512))
    return kd.CLIPTeacher(model, processor=processor)


def main():
    """Measure, write the JSON and return it."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    teacher, processor = make_teacher(), kd.load_clip(STUDENT)[1]
    rows = kd.load_image_text("shapes", max_samples=BATCH * (STEPS + WARM_UP), image_size=224)
    with tempfile.TemporaryDirectory() as folder:
        views = kd.AugmentationCollator(teacher.processor, **VIEWS)
        cache = kd.CacheWriter(f"{folder}/cache", teacher, views, rows, {}, batch_size=BATCH).write()
        online = kd.CLIPDataCollator(processor, teacher.processor, **VIEWS)
        features = teacher.of_batch(online([rows[i] for i in range(BATCH)]))
        runs = {
            "no_teacher": (InMemory(teacher, features), kd.CLIPDataCollator(processor, **VIEWS)),
            "cached": (cache, kd.ReplayCollator(processor, cache)),
            "online": (teacher, online),
        }
        seconds = {name: [] for name in runs}
        for _ in range(REPEATS):
            for name, (source, collator) in runs.items():
                seconds[name].append(step_seconds(STUDENT, source, collator, rows, folder, **TRAINING))
    given = seconds["cached"], seconds["no_teacher"]
    compared = row("cached step, B/16 → T/16", "step without a teacher", *given, "s", at_most=1.05)
    return write(
        "cached_step",
        {
            "rows": [compared],
            "ratio": compared["ratio"],
            "spread": compared["spread"],
            "online_to_cached": round(statistics.median(seconds["online"]) / statistics.median(seconds["cached"]), 4),
            "step_seconds": {name: round(statistics.median(values), 4) for name, values in seconds.items()},
            "batch": BATCH,
            "repeats": REPEATS,
            "losses": LOSSES,
            "machine": machine("torch", "transformers", "accelerate", threads=torch.get_num_threads()),
        },
    )


if __name__ == "__main__":
    main()
