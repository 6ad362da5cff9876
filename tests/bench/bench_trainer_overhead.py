"""
Time of a `DistillationTrainer` step of small models, compared with a bare PyTorch loop with the same work.

    python tests/bench/bench_trainer_overhead.py

writes outputs/bench/trainer_overhead.json. Both train the same student from the same teacher on the same batches in
memory. Losses, AdamW, gradient clipping and clamping are the same, too. The models are so small that all that is not
arithmetic shows. The loop runs before and after the trainer. The control compares the loop with itself. Each run has
a process of its own.
"""

import json
import os
import statistics
import sys
from dataclasses import asdict

# The threads are set before torch is imported. Other programs disturb a single thread the least.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from online import Setting, check_same_work, measured, ours, plain
from report import machine, row, write
from turns import memory, of, take_turns

SETTING = Setting(student="shapes-vit-s", teacher="small", batch=256, steps=12, warm_up=2)
RUNS = {"before": plain, "trainer": ours, "after": plain}
REPEATS = 7


def compare(trainer, before, after):
    """Median, smallest and largest ratio of the trainer to the loops, and the same for loop against loop."""
    # A drift of the machine's speed cancels in the ratio to the mean of both loops.
    ratios = [2 * t / (a + b) for t, a, b in zip(trainer, before, after, strict=True)]
    # The control compares equal work. A ratio is known no better than this.
    control = [b / a for a, b in zip(before, after, strict=True)]
    return {
        "ratio": round(statistics.median(ratios), 4),
        "spread": [round(min(ratios), 4), round(max(ratios), 4)],
        "control_ratio": round(statistics.median(control), 4),
        "control_spread": [round(min(control), 4), round(max(control), 4)],
        "trainer_step_seconds": round(statistics.median(trainer), 4),
        "loop_step_seconds": round(statistics.median(before + after), 4),
    }


def main(setting=SETTING, repeats=REPEATS):
    """Measure, write the JSON and return it."""
    results = take_turns(__file__, RUNS, repeats, json.dumps(asdict(setting)))
    check_same_work(results, *RUNS)
    wall, cpu = (
        {name: of(results, name, clock) for name in ("trainer", "before", "after")}
        for clock in ("seconds", "cpu_seconds")
    )
    loops = [(a + b) / 2 for a, b in zip(wall["before"], wall["after"], strict=True)]
    limits = {"at_most": 1.05, "memory": memory(results, "trainer", "before")}
    return write(
        "trainer_overhead",
        {
            "rows": [row("a step of small models", "plain PyTorch loop", wall["trainer"], loops, "s", **limits)],
            **compare(**wall),
            "cpu_time": compare(**cpu),
            "repeats": repeats,
            "setting": asdict(setting),
            "machine": machine(torch.get_num_threads()),
        },
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measured(RUNS[sys.argv[1]], Setting(**json.loads(sys.argv[2])))))
    else:
        main()
