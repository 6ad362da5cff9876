"""
Memory and time of `clip_kd`, forward and backward, against the same losses written plainly, which keep their matrices.

    python tests/bench/bench_loss_memory.py

writes outputs/bench/loss_memory.json. Each measurement is a process of its own, because what a process once took it may
keep. Its peak is that of the resident memory, as Linux counts it, above what it was before the first step.
"""

import json
import math
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from report import machine, write

from hf_clip_kd.features import CLIPDims, CLIPFeatures
from hf_clip_kd.losses import LossSum

WIDTH, STUDENT_SCALE, TEACHER_SCALE = 512, 1 / 0.07, 100.0
BATCHES = [1024, 2048, 4096, 8192, 16384, 32768]
COMPARED = 16384  # the batch of the ratios
PAIRS = 5  # of one run of either there, one after the other
WARM_UP = 512  # a batch so small that what it leaves behind does not count


def ours():
    losses = LossSum("clip_kd", CLIPDims(WIDTH), CLIPDims(WIDTH))
    parameters = list(losses.parameters())
    return parameters, lambda student, teacher: losses(student, teacher)[0]


def plain():
    """The four losses as one writes them down, with the student's and the teacher's similarities computed once."""
    log_scale = torch.tensor(math.log(1 / 0.07), requires_grad=True)

    def loss(student, teacher):
        image, text = F.normalize(student.image_embeds, dim=-1), F.normalize(student.text_embeds, dim=-1)
        teacher_image = F.normalize(teacher.image_embeds, dim=-1)
        teacher_text = F.normalize(teacher.text_embeds, dim=-1)
        labels = torch.arange(len(image))

        logits = student.logit_scale * image @ text.T
        task = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
        targets = teacher.logit_scale * teacher_image @ teacher_text.T
        crd = sum(
            F.kl_div(logits.log_softmax(dim), targets.log_softmax(dim), reduction="sum", log_target=True)
            for dim in (0, 1)
        ) / (2 * len(image))
        del logits, targets
        scale = log_scale.exp()
        icl = F.cross_entropy(scale * image @ teacher_text.T, labels)
        icl = (icl + F.cross_entropy(scale * text @ teacher_image.T, labels)) / 2
        fd = (image - teacher_image).square().sum(-1).mean() + (text - teacher_text).square().sum(-1).mean()
        return task + crd + icl + 4 * fd

    return [log_scale], loss


def plain_sharing():
    """The same, but the log-softmaxes are shared between the task and its ranking, too."""
    log_scale = torch.tensor(math.log(1 / 0.07), requires_grad=True)

    def loss(student, teacher):
        image, text = F.normalize(student.image_embeds, dim=-1), F.normalize(student.text_embeds, dim=-1)
        teacher_image = F.normalize(teacher.image_embeds, dim=-1)
        teacher_text = F.normalize(teacher.text_embeds, dim=-1)
        labels = torch.arange(len(image))
        logits = student.logit_scale * image @ text.T
        targets = teacher.logit_scale * teacher_image @ teacher_text.T
        total = 0
        for dim in (0, 1):
            log_p = logits.log_softmax(dim)
            total = total - log_p.diagonal().mean() / 2
            total = total + F.kl_div(log_p, targets.log_softmax(dim), reduction="sum", log_target=True) / (2 * len(image))
        del logits, targets, log_p
        scale = log_scale.exp()
        icl = F.cross_entropy(scale * image @ teacher_text.T, labels)
        icl = (icl + F.cross_entropy(scale * text @ teacher_image.T, labels)) / 2
        fd = (image - teacher_image).square().sum(-1).mean() + (text - teacher_text).square().sum(-1).mean()
        return total + icl + 4 * fd

    return [log_scale], loss


IMPLEMENTATIONS = {"ours": ours, "plain": plain, "plain_sharing": plain_sharing}


def features(batch, seed, scale, requires_grad=False):
    generator = torch.Generator().manual_seed(seed)
    embeds = [torch.randn(batch, WIDTH, generator=generator).requires_grad_(requires_grad) for _ in range(2)]
    return CLIPFeatures(*embeds, torch.tensor(scale, requires_grad=requires_grad))


def step(parameters, loss, batch):
    """Peak memory in MB above the inputs', seconds, and the loss, of one forward and backward pass."""
    student, teacher = features(batch, 0, STUDENT_SCALE, True), features(batch, 1, TEACHER_SCALE)
    before, start = resident("VmRSS"), time.perf_counter()
    value = loss(student, teacher)
    value.backward()
    seconds = time.perf_counter() - start
    for tensor in (*parameters, student.image_embeds, student.text_embeds, student.logit_scale):
        if not torch.isfinite(tensor.grad).all():
            raise SystemExit("A gradient is missing or not finite.")
        tensor.grad = None
    return resident("VmHWM") - before, seconds, value.item()


def resident(name):
    """This process's memory in MB: now (`VmRSS`) or at its highest so far (`VmHWM`)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def child(implementation, batch):
    """What one process measures, printed as JSON."""
    parameters, loss = IMPLEMENTATIONS[implementation]()
    step(parameters, loss, WARM_UP)
    megabytes, seconds, value = step(parameters, loss, batch)
    repeats = 0 if batch >= COMPARED else COMPARED // batch  # the fast ones often, so that they say something
    seconds = statistics.median([seconds, *(step(parameters, loss, batch)[1] for _ in range(repeats))])
    print(json.dumps({"megabytes": megabytes, "seconds": seconds, "loss": value}))


def run(implementation, batch):
    command = [sys.executable, __file__, implementation, str(batch)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    child(sys.argv[1], int(sys.argv[2]))
