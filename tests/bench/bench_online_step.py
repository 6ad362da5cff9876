"""
Online distillation from a ViT-B/16 to a ViT-T/16 at 224 pixels: ours, open_clip's own loop, and a plain PyTorch loop.

    python tests/bench/bench_online_step.py

writes outputs/bench/online_step.json. All train models of the same sizes. Pictures and captions are the same, and lie
in memory. Threads are the same, too. The loop of open_clip is its `train_one_epoch` with its `DistillClipLoss`. Ours
has `clip` and `affinity` then, which are the same formula. The plain loop has CLIP-KD's formulas, and ours `clip_kd`.
Each tool writes the captions as tokens by itself. Runs take turns, each in a process of its own.

open_clip pads each caption to 77 tokens, and we pad to the longest of the batch. A second row pads ours to 77, too.
A student in float32 is measured with a teacher in bfloat16, too (`--teacher_dtype bfloat16`). The precision of
open_clip is that of both models.
"""

import json
import sys
from dataclasses import asdict, replace

import torch
from online import Setting, check_same_work, measured, open_clip, ours, plain, use_all_cores
from report import machine, row, write
from turns import memory, of, take_turns

REPEATS = 5
LIKE_OPEN_CLIP = {"clip": 1.0, "affinity": 1.0}
# Name of a run of ours beside open_clip -> its row, and its settings.
BESIDE_OPEN_CLIP = {
    "ours": ("captions as long as the longest", {}),
    "ours_padded": ("captions of 77 tokens", {"padding": "max_length"}),
    "ours_bf16_teacher": ("teacher in bf16", {"bf16_teacher": True}),
}
RUNS = {
    name: lambda setting, changes=changes: ours(replace(setting, losses=LIKE_OPEN_CLIP, **changes))
    for name, (_, changes) in BESIDE_OPEN_CLIP.items()
} | {"open_clip": open_clip, "ours_clip_kd": ours, "plain": plain}


def main(setting=Setting(), repeats=REPEATS, precisions=("fp32", "bf16")):  # noqa: B008
    """Measure, write the JSON and return it."""
    rows = []
    for precision in precisions:
        given = json.dumps(asdict(replace(setting, bf16=precision == "bf16")))
        names = [name for name in RUNS if precision == "fp32" or name != "ours_bf16_teacher"]
        results = take_turns(__file__, names, repeats, given)
        pair = ("ours_clip_kd", "plain")
        check_same_work(results, *pair)
        for name in [name for name in BESIDE_OPEN_CLIP if name in names]:
            rows.append(
                row(
                    f"online step, B/16 → T/16, {precision}, {BESIDE_OPEN_CLIP[name][0]}",
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
                f"online step with `clip_kd`, B/16 → T/16, {precision}",
                "plain PyTorch loop",
                *[of(results, name, "seconds") for name in pair],
                "s",
                at_most=1.05,
                memory=memory(results, *pair),
            )
        )
    facts = {"setting": asdict(setting), "machine": machine(torch.get_num_threads(), setting.device)}
    return write("online_step", {"rows": rows, **facts})


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measured(RUNS[sys.argv[1]], Setting(**json.loads(sys.argv[2])))))
    else:
        use_all_cores()
        main()
