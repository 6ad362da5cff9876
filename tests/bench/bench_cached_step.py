"""
Time of a step with a cached teacher, compared with steps without a teacher and with a live teacher.

    python tests/bench/bench_cached_step.py

writes outputs/bench/cached_step.json. A ViT-B/16 teaches a ViT-T/16 at 224 pixels. All three steps decode, crop and
tokenize the same pictures in the main process, and train with the same losses. The step without a teacher takes the
teacher's features from memory. Runs take turns, each in a process of its own.
"""

import json
import logging
import os
import statistics
import sys
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from online import InMemory, Setting, teacher_model
from report import machine, row, write
from step_times import step_seconds
from turns import memory, of, peak_memory, take_turns

import hf_clip_kd as kd

LOSSES = {"clip": 1.0, "crd": 1.0, "icl": 1.0, "fd": 4.0}
SETTING, REPEATS = Setting(batch=32, warm_up=1, steps=4), 5
VIEWS = {"crop_scale": (0.9, 1.0), "seed": 0}


def parts(student, teacher, batch, count):
    """Return the student's processor, a function that makes the teacher, and the rows of some batches."""
    model, processor = kd.load_clip(student)
    size = model.config.vision_config.image_size
    rows = kd.load_image_text("shapes", max_samples=batch * count, image_size=size)
    setting = Setting(student=student, teacher=teacher)
    return processor, lambda: kd.CLIPTeacher(teacher_model(setting), processor=processor), rows


def prepare(folder, student, teacher, batch, count):
    """Write the cache, and the features of a batch for the step without a teacher."""
    processor, make_teacher, rows = parts(student, teacher, batch, count)
    teacher = make_teacher()
    views = kd.AugmentationCollator(processor, **VIEWS)
    kd.CacheWriter(f"{folder}/cache", teacher, views, rows, {}, batch_size=batch).write()
    collator = kd.CLIPDataCollator(processor, **VIEWS)
    torch.save((teacher.dims, teacher.of_batch(collator([rows[i] for i in range(batch)]))), f"{folder}/features.pt")


def no_teacher(folder, processor, make_teacher):
    known = torch.load(f"{folder}/features.pt", weights_only=False)
    return InMemory(*known), kd.CLIPDataCollator(processor, **VIEWS)


def cached(folder, processor, make_teacher):
    cache = kd.TeacherCache(f"{folder}/cache")
    return cache, kd.ReplayCollator(processor, cache)


def online(folder, processor, make_teacher):
    return make_teacher(), kd.CLIPDataCollator(processor, **VIEWS)


RUNS = {"cached": cached, "no_teacher": no_teacher, "online": online}


def child(name, folder, student, teacher, batch, warm_up, steps):
    """Measure in one process."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    training = {"batch": int(batch), "warm_up": int(warm_up), "steps": int(steps)}
    processor, make_teacher, rows = parts(student, teacher, int(batch), int(warm_up) + int(steps))
    source, collator = RUNS[name](folder, processor, make_teacher)
    with tempfile.TemporaryDirectory() as output:
        seconds = step_seconds(student, source, collator, rows, output, losses=LOSSES, **training)
    return {"seconds": seconds, "megabytes": peak_memory()}


def main(setting=SETTING, repeats=REPEATS):
    """Measure, write the JSON and return it."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    names = setting.student, setting.teacher, setting.batch
    with tempfile.TemporaryDirectory() as folder:
        prepare(folder, *names, setting.warm_up + setting.steps)
        results = take_turns(__file__, RUNS, repeats, folder, *names, setting.warm_up, setting.steps)
    seconds = {name: of(results, name, "seconds") for name in RUNS}
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    pair = ("cached", "no_teacher")
    limits = {"at_most": 1.05, "memory": memory(results, *pair)}
    what = ("cached step, B/16 → T/16", "step without a teacher")
    return write(
        "cached_step",
        {
            "rows": [row(*what, *[seconds[name] for name in pair], "s", **limits)],
            "online_to_cached": round(medians["online"] / medians["cached"], 4),
            "step_seconds": {name: round(value, 4) for name, value in medians.items()},
            "batch": setting.batch,
            "repeats": repeats,
            "losses": LOSSES,
            "machine": machine(torch.get_num_threads()),
        },
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(child(*sys.argv[1:])))
    else:
        main()
