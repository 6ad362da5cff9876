"""
Time of a step on the embedded world with a teacher cache, and of the batch that it needs.

    python tests/bench/bench_small_pictures.py

writes outputs/bench/small_pictures.json. The batch is made in turn with two shortcuts and without them. A PPM is read
without Pillow's reader, and a caption is tokenized once. Times are CPU time of one thread.
"""

import os
import statistics
import tempfile
import time
from contextlib import ExitStack
from unittest.mock import patch

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from report import machine, write

import hf_clip_kd as kd

STUDENT, BATCH, BATCHES, REPEATS = "shapes-vit-t", 128, 8, 5


def make_cache(folder, processor, dataset):
    """Write the features of an untrained teacher."""
    teacher = kd.CLIPTeacher(kd.load_clip(STUDENT)[0], processor=processor)
    views = kd.AugmentationCollator(processor, augmentations=1, crop_scale=(1.0, 1.0))
    return kd.CacheWriter(folder, teacher, views, dataset, {}, dtype=torch.float32, batch_size=BATCH).write()


def without_shortcuts():
    """Read each picture through Pillow, and tokenize each caption each time."""
    stack = ExitStack()
    stack.enter_context(patch("hf_clip_kd.data.reading.images._plain", lambda value: None))
    stack.enter_context(patch("hf_clip_kd.data.transforms.view._KEPT_TEXTS", 0))
    return stack


def seconds(function, batches):
    """Median CPU seconds of one call."""
    times = []
    for batch in batches:
        begin = time.process_time()
        function(batch)
        times.append(time.process_time() - begin)
    return statistics.median(times)


def main():
    """Measure, write the JSON and return it."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    dataset = kd.load_image_text("shapes", max_samples=BATCH * BATCHES)
    student, processor = kd.load_clip(STUDENT)
    with tempfile.TemporaryDirectory() as folder:
        cache = make_cache(f"{folder}/cache", processor, dataset)
        collator = kd.ReplayCollator(processor, cache)
        args = kd.DistillationTrainingArguments(folder, losses="clip_kd", use_cpu=True, report_to="none")
        trainer = kd.DistillationTrainer(
            student, args, teacher_model=cache, data_collator=collator, train_dataset=dataset
        )
        optimizer = trainer.create_optimizer()
        rows = [dataset.__getitems__(list(range(i * BATCH, (i + 1) * BATCH))) for i in range(BATCHES)]

        def step(batch):
            trainer.model(**trainer.model_inputs(batch))["loss"].backward()
            optimizer.step()
            trainer.model.zero_grad()

        found = {"slow": [], "fast": [], "model": []}
        for _ in range(REPEATS):
            with without_shortcuts():
                found["slow"].append(seconds(kd.ReplayCollator(processor, cache), rows))
            found["fast"].append(seconds(collator, rows))
            found["model"].append(seconds(step, [collator(batch) for batch in rows]))
    slow, fast, model = (1000 * min(found[name]) for name in ("slow", "fast", "model"))
    return write(
        "small_pictures",
        {
            "batch_ms_by_pillow_and_tokenizer": round(slow, 1),
            "batch_ms": round(fast, 1),
            "model_and_optimizer_ms": round(model, 1),
            "batch_ratio": round(fast / slow, 3),
            "step_ratio": round((fast + model) / (slow + model), 3),
            "pictures_per_batch": BATCH,
            "repeats": REPEATS,
            "machine": machine(),
        },
    )


if __name__ == "__main__":
    main()
