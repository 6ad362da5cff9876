"""
Growth of seconds and memory with the batch, from 64 to 16,384 pairs: the loss alone, and a GradCache step.

    python tests/bench/bench_batch_growth.py

writes outputs/bench/batch_growth.json. The loss is `clip_kd` with its gradient, on embeddings 512 wide. The step is
that of the student `shapes-vit-t`, without a teacher and in micro-batches of 64. Each run has its own process.
"""

import itertools
import json
import logging
import statistics
import sys
import tempfile
import time

import torch
from bench_loss_memory import STUDENT_SCALE, TEACHER_SCALE, features
from online import use_all_cores
from report import machine, rounded, row, write
from step_times import StepTimes
from turns import memory, of, peak_memory, take_turns

import hf_clip_kd as kd

MICRO_BATCH, REPEATS, BATCHES = 64, 5, [64, 256, 1024, 4096, 16384]
STUDENT = "shapes-vit-t"


def loss_alone(batch):
    """Return the seconds of a forward and a backward pass of the loss."""
    losses = kd.LossSum("clip_kd", kd.CLIPDims(512), kd.CLIPDims(512))
    seconds = []
    for _ in range(2):  # the first one warms up
        student, teacher = features(batch, 0, STUDENT_SCALE, True), features(batch, 1, TEACHER_SCALE)
        start = time.perf_counter()
        losses(student, teacher)[0].backward()
        seconds.append(time.perf_counter() - start)
    return seconds[-1]


def grad_cache(batch):
    """Return the seconds of a step in micro-batches."""
    model, processor = kd.load_clip(STUDENT)
    rows = kd.load_image_text("shapes", max_samples=MICRO_BATCH)
    made = kd.CLIPDataCollator(processor)([rows[i] for i in range(MICRO_BATCH)])
    times = StepTimes()
    with tempfile.TemporaryDirectory() as folder:
        args = kd.DistillationTrainingArguments(
            folder,
            losses={"clip": 1.0},
            per_device_train_batch_size=1,  # a row of the data set is a whole micro-batch
            gradient_accumulation_steps=batch // MICRO_BATCH,
            max_steps=3,
            logging_steps=1000,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        )
        data = [made] * (3 * batch // MICRO_BATCH)
        kd.DistillationTrainer(
            model=model, args=args, train_dataset=data, data_collator=lambda rows: rows[0], callbacks=[times]
        ).train()
    return times.moments[-1] - times.moments[-2]


RUNS = {"loss": loss_alone, "grad_cache": grad_cache}


def child(name, batch):
    """Measure in one process."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    use_all_cores()
    torch.manual_seed(0)
    return {"seconds_per_pair": RUNS[name](int(batch)) / int(batch), "megabytes": peak_memory()}


def main(batches=BATCHES, repeats=REPEATS):
    """Measure, write the JSON and return it."""
    results = take_turns(__file__, list(itertools.product(RUNS, batches)), repeats)
    first, last = batches[0], batches[-1]
    rows = []
    for name, what in (("loss", "`clip_kd` alone"), ("grad_cache", "GradCache step")):
        pair = (name, last), (name, first)
        seconds = [of(results, run, "seconds_per_pair") for run in pair]
        peaks = memory(results, *pair)
        rows.append(row(f"{what}, a pair of {last:,}", f"a pair of {first}", *seconds, "s", memory=peaks))
    growth = {
        batch: {
            name: {
                "seconds_per_pair": rounded(statistics.median(of(results, (name, batch), "seconds_per_pair"))),
                "megabytes": round(memory(results, (name, batch))[0]),
            }
            for name in RUNS
        }
        for batch in batches
    }
    facts = {
        "batches": growth,
        "micro_batch": MICRO_BATCH,
        "student": STUDENT,
        "machine": machine(threads=torch.get_num_threads()),
    }
    return write("batch_growth", {"rows": rows, **facts})


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(child(*sys.argv[1:])))
    else:
        use_all_cores()
        main()
