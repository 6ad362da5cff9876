"""
Memory and time of `clip_kd`, forward and backward, against the same losses written plainly, which keep their matrices.

    python tests/bench/bench_loss_memory.py

writes outputs/bench/loss_memory.json. Each measurement has its own process, because a process may keep memory that it
once took. Its peak is that of the resident memory, as Linux counts it, above the memory before the first step. The
table of all benchmarks has the whole peak, as in its other rows.
"""

import json
import math
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from report import machine, row, write
from turns import memory, peak_memory, resident, take_turns

from hf_clip_kd.losses import LossSum
from hf_clip_kd.losses.features import CLIPDims, CLIPFeatures

WIDTH, STUDENT_SCALE, TEACHER_SCALE = 512, 1 / 0.07, 100.0
BATCHES = [1024, 2048, 4096, 8192, 16384, 32768]
COMPARED = 16384  # The ratios are those of this batch.
PAIRS = 5  # A pair is one run of each there, one after the other.
WARM_UP = 512  # The rest that so small a batch leaves in memory does not count.


def ours():
    losses = LossSum("clip_kd", CLIPDims(WIDTH), CLIPDims(WIDTH))
    parameters = list(losses.parameters())
    return parameters, lambda student, teacher: losses(student, teacher)[0]


def plain():
    """The four losses as one writes them down with care: every matrix of similarities and its log-softmaxes once."""
    log_scale = torch.tensor(math.log(1 / 0.07), requires_grad=True)

    def loss(student, teacher):
        image, text = F.normalize(student.image_embeds, dim=-1), F.normalize(student.text_embeds, dim=-1)
        teacher_image = F.normalize(teacher.image_embeds, dim=-1)
        teacher_text = F.normalize(teacher.text_embeds, dim=-1)
        logits = student.logit_scale * image @ text.T
        targets = teacher.logit_scale * teacher_image @ teacher_text.T
        task = crd = 0.0
        for dim in (0, 1):
            log_p = logits.log_softmax(dim)
            task = task - log_p.diagonal().mean() / 2
            log_q = targets.log_softmax(dim)
            crd = crd + F.kl_div(log_p, log_q, reduction="sum", log_target=True) / (2 * len(image))
        del logits, targets, log_p, log_q  # Autograd keeps the parts that the backward pass needs.
        scale, labels = log_scale.exp(), torch.arange(len(image))
        icl = F.cross_entropy(scale * image @ teacher_text.T, labels)
        icl = (icl + F.cross_entropy(scale * text @ teacher_image.T, labels)) / 2
        fd = (image - teacher_image).square().sum(-1).mean() + (text - teacher_text).square().sum(-1).mean()
        return task + crd + icl + 4 * fd

    return [log_scale], loss


IMPLEMENTATIONS = {"ours": ours, "plain": plain}


def features(batch, seed, scale, requires_grad=False):
    generator = torch.Generator().manual_seed(seed)
    embeds = [torch.randn(batch, WIDTH, generator=generator).requires_grad_(requires_grad) for _ in range(2)]
    return CLIPFeatures(*embeds, torch.tensor(scale, requires_grad=requires_grad))


def step(parameters, loss, batch):
    """Measure a forward and backward pass: peak memory in MB above the inputs', wall and CPU seconds, and the loss."""
    student, teacher = features(batch, 0, STUDENT_SCALE, True), features(batch, 1, TEACHER_SCALE)
    before, wall, cpu = resident("VmRSS"), time.perf_counter(), time.process_time()
    value = loss(student, teacher)
    value.backward()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    for tensor in (*parameters, student.image_embeds, student.text_embeds, student.logit_scale):
        if not torch.isfinite(tensor.grad).all():
            raise SystemExit("A gradient is missing or not finite.")
        tensor.grad = None
    return {
        "added_megabytes": resident("VmHWM") - before,
        "seconds": wall,
        "cpu_seconds": cpu,
        "loss": value.item(),
    }


def child(implementation, batch):
    """Measure in one process."""
    parameters, loss = IMPLEMENTATIONS[implementation]()
    step(parameters, loss, WARM_UP)
    steps = [step(parameters, loss, batch)]
    # Short steps several times, so that their time says something; the first one has the peak.
    steps += [step(parameters, loss, batch) for _ in range(min(9, COMPARED // batch - 1))]
    seconds = {key: statistics.median(s[key] for s in steps) for key in ("seconds", "cpu_seconds")}
    return steps[0] | seconds | {"megabytes": peak_memory()}


def available():
    """Memory in MB that a new process can take."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("MemAvailable"))


def measure(batch, repeats, with_plain):
    """The runs of either implementation, by its name, in turn."""
    runs = take_turns(__file__, ("ours", "plain") if with_plain else ("ours",), repeats, batch)
    losses = [run["loss"] for results in runs.values() for run in results]
    if not all(math.isclose(loss, losses[0], rel_tol=1e-4) for loss in losses):
        raise SystemExit(f"The implementations did not do the same work: their losses are {losses}.")
    return runs


def summary(runs):
    """Medians of either implementation."""
    return {
        f"{implementation}_{key}": round(statistics.median(result[key] for result in results), 3)
        for implementation, results in runs.items()
        for key in ("added_megabytes", "seconds", "cpu_seconds")
    }


def compare(runs, key):
    """Median, smallest and largest ratio of ours to the plain run after it."""
    ratios = [a[key] / b[key] for a, b in zip(runs["ours"], runs["plain"], strict=True)]
    return round(statistics.median(ratios), 4), [round(min(ratios), 4), round(max(ratios), 4)]


def main(batches=BATCHES, compared=COMPARED, repeats=PAIRS):
    """Measure, write the JSON and return it."""
    table, plain_megabytes = {}, 0.0
    for batch in batches:
        expected, free = 4 * plain_megabytes, available()  # matrices of twice the batch are four times as large
        runs = measure(batch, repeats if batch == compared else 1, expected < 0.9 * free)
        table[batch] = summary(runs)
        if "plain" in runs:
            plain_megabytes = table[batch]["plain_added_megabytes"]
        else:
            table[batch]["plain"] = f"skipped: would take about {expected:.0f} MB of the {free:.0f} MB available"
            plain_megabytes = expected
        if batch == compared:
            # CPU time is blind to other programs that take the cores.
            added, wall, cpu = (compare(runs, key) for key in ("added_megabytes", "seconds", "cpu_seconds"))
            times = [[run["seconds"] for run in results] for results in runs.values()]
            what, peaks = f"`clip_kd` of {batch:,} pairs", memory(runs, "ours", "plain")
            compared_row = row(what, "the losses written plainly", *times, "s", memory=peaks)
    grown = [table[batch]["ours_added_megabytes"] for batch in (2 * compared, compared)]
    return write(
        "loss_memory",
        {
            "rows": [compared_row],
            "ratio": added[0],
            "ratio_spread": added[1],
            "time_ratio": wall[0],
            "time_ratio_spread": wall[1],
            "cpu_time_ratio": cpu[0],
            "cpu_time_ratio_spread": cpu[1],
            "growth_to_twice_the_batch": round(grown[0] / grown[1], 3),
            "compared_batch": compared,
            "repeats": repeats,
            "width": WIDTH,
            "losses": "clip_kd",
            "batches": table,
            "machine": machine(threads=torch.get_num_threads()),
        },
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(child(sys.argv[1], int(sys.argv[2]))))
    else:
        main()
