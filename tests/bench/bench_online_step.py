"""
Online distillation from a ViT-B/16 to a ViT-T/16 at 224 pixels: ours, open_clip's own loop, and a plain PyTorch loop.

    python tests/bench/bench_online_step.py

writes outputs/bench/online_step.json. All train models of the same sizes. Pictures and captions are the same, and lie
in memory. Threads are the same, too. The loop of open_clip is its `train_one_epoch` with its `DistillClipLoss`. Ours
has `clip` and `affinity` then, which are the same formula. The plain loop has CLIP-KD's formulas, and ours `clip_kd`.
Each tool writes the captions as tokens by itself. Runs take turns, each in a process of its own.

A student in float32 is measured with a teacher in bfloat16, too (`--teacher_dtype bfloat16`). The precision of
open_clip is that of both models.
"""

import json
import logging
import sys
from dataclasses import asdict, replace

import torch
from online import Setting, open_clip, ours, plain, use_all_cores, weights_of
from report import machine, row, write
from turns import memory, of, peak_memory, take_turns

REPEATS = 5
LIKE_OPEN_CLIP = {"clip": 1.0, "affinity": 1.0}
RUNS = {
    "ours": lambda setting: ours(replace(setting, losses=LIKE_OPEN_CLIP)),
    "open_clip": open_clip,
    "ours_bf16_teacher": lambda setting: ours(replace(setting, losses=LIKE_OPEN_CLIP, bf16_teacher=True)),
    "ours_clip_kd": ours,
    "plain": plain,
}


def child(name, setting):
    """Measure in one process."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    use_all_cores()
    torch.manual_seed(0)
    seconds, student = RUNS[name](Setting(**json.loads(setting)))
    rate = json.loads(setting)["batch"] / seconds
    return {"rate": rate, "seconds": seconds, "megabytes": peak_memory(), "weights": weights_of(student)}


def main(setting=Setting(), repeats=REPEATS, precisions=("fp32", "bf16")):  # noqa: B008
    """Measure, write the JSON and return it."""
    rows, weights = [], set()
    for precision in precisions:
        given = json.dumps(asdict(replace(setting, bf16=precision == "bf16")))
        names = [name for name in RUNS if precision == "fp32" or name != "ours_bf16_teacher"]
        results = take_turns(__file__, names, repeats, given)
        weights |= {run["weights"] for runs in results.values() for run in runs}
        seconds, pair = ("ours_clip_kd", "plain"), f"B/16 → T/16, {precision}"
        for name in [name for name in ("ours", "ours_bf16_teacher") if name in names]:
            rows.append(
                row(
                    f"online step, {pair}" + (", teacher in bf16" if name != "ours" else ""),
                    "open_clip's training loop",
                    of(results, name, "rate"),
                    of(results, "open_clip", "rate"),
                    "samples/s",
                    at_least=1.5,
                    memory=memory(results, name, "open_clip"),
                )
            )
        rows.append(
            row(
                f"online step with `clip_kd`, {pair}",
                "plain PyTorch loop",
                *[of(results, name, "seconds") for name in seconds],
                "s",
                at_most=1.05,
                memory=memory(results, *seconds),
            )
        )
    if len(weights) > 1:
        raise SystemExit(f"The students are not of one size: {weights}.")
    packages = ("torch", "transformers", "accelerate", "open_clip_torch")
    facts = {"setting": asdict(setting), "machine": machine(*packages, threads=torch.get_num_threads())}
    return write("online_step", {"rows": rows, **facts})


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(child(*sys.argv[1:])))
    else:
        use_all_cores()
        main()
