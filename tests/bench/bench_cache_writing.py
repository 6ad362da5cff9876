"""
Images per second that a teacher cache is written with, compared with the bare forward pass of the teacher.

    python tests/bench/bench_cache_writing.py

writes outputs/bench/cache_writing.json. The teacher is a ViT-B/16 at 224 pixels. The writer decodes, crops, tokenizes,
computes and stores. The bare pass gets batches that lie in memory. Runs take turns, each in a process of its own.
"""

import json
import logging
import sys
import tempfile
import time

import torch
from online import Setting, teacher_model, use_all_cores
from report import machine, row, write
from turns import memory, of, peak_memory, take_turns

import hf_clip_kd as kd

BATCH, BATCHES, REPEATS = 32, 4, 5
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def bare(teacher, rows, batch):
    """Return the seconds of the forward passes alone."""
    collator = kd.CLIPDataCollator(teacher.processor)
    data = [collator([rows[i] for i in range(start, start + batch)]) for start in range(0, len(rows), batch)]
    start = time.perf_counter()
    for inputs in data:
        teacher.of_batch(inputs).image_embeds.cpu()
    return time.perf_counter() - start


def written(teacher, rows, batch):
    """Return the seconds of writing a cache."""
    views = kd.AugmentationCollator(teacher.processor)
    with tempfile.TemporaryDirectory() as folder:
        writer = kd.CacheWriter(f"{folder}/cache", teacher, views, rows, {}, batch_size=batch)
        start = time.perf_counter()
        writer.write()
        return time.perf_counter() - start


RUNS = {"ours": written, "bare": bare}


def child(name, batch, count, student, teacher):
    """Measure in one process."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    use_all_cores()
    processor = kd.load_clip(student)[1]
    teacher = kd.CLIPTeacher(teacher_model(Setting(student=student, teacher=teacher)), processor=processor)
    teacher.place(DEVICE)
    rows = kd.load_image_text("shapes", max_samples=int(batch) * int(count), image_size=224)
    # Both have computed a whole batch before their time begins.
    teacher.of_batch(kd.CLIPDataCollator(teacher.processor)([rows[i] for i in range(int(batch))]))
    return {"rate": len(rows) / RUNS[name](teacher, rows, int(batch)), "megabytes": peak_memory(DEVICE)}


def main(batch=BATCH, count=BATCHES, repeats=REPEATS, student="ViT-T-16", teacher="B/16"):
    """Measure, write the JSON and return it."""
    results = take_turns(__file__, RUNS, repeats, batch, count, student, teacher)
    rates = [of(results, name, "rate") for name in RUNS]
    limits = {"at_least": 0.9, "memory": memory(results, *RUNS)}
    rows = [row("teacher cache, written", "bare teacher forward", *rates, "images/s", **limits)]
    facts = {
        "batch": batch,
        "batches": count,
        "student": student,
        "machine": machine(torch.get_num_threads(), DEVICE),
    }
    return write("cache_writing", {"rows": rows, **facts})


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(child(*sys.argv[1:])))
    else:
        use_all_cores()
        main()
