"""
Ratio of the time of a `DistillationTrainer` step to that of a bare PyTorch loop with the same work.

    python tests/bench/bench_trainer_overhead.py

writes outputs/bench/trainer_overhead.json. Both train the same student from the same teacher, with the same losses,
AdamW, gradient clipping and clamping. Both use the same batches, already collated in memory. The control compares the
loop with itself.
"""

import logging
import math
import os
import statistics
import tempfile
import time

# The threads are set before torch is imported. Other programs disturb a single thread the least.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from report import machine, row, write
from step_times import StepTimes
from torch.utils.data import DataLoader

import hf_clip_kd as kd
from hf_clip_kd.losses import LossSum
from hf_clip_kd.losses.features import CLIPDims, CLIPFeatures
from hf_clip_kd.models.towers.tokens import pooled

LOSSES = {"clip": 1.0, "crd": 1.0, "icl": 1.0, "fd": 4.0}
LEARNING_RATE, WEIGHT_DECAY, MAX_GRAD_NORM, BETAS, EPSILON = 1e-3, 0.1, 1.0, (0.9, 0.98), 1e-6
BATCH, WARM_UP, STEPS, REPEATS = 256, 2, 14, 7


def now():
    """Wall time and this process's CPU time; the second is blind to other programs that take the core."""
    return time.perf_counter(), time.process_time()


def first(rows):
    """The collator of batches that are collated already."""
    return rows[0]


def make_student():
    torch.manual_seed(0)
    return kd.load_clip("shapes-vit-s")


def make_teacher():
    torch.manual_seed(1)
    model, processor = kd.load_clip("shapes-vit-s")
    return kd.CLIPTeacher(model, processor=processor)


def make_batches(processor, teacher):
    rows = kd.load_image_text("shapes", max_samples=BATCH * STEPS)
    collator = kd.CLIPDataCollator(processor, teacher.processor)
    return [collator(list(rows.select(range(i * BATCH, (i + 1) * BATCH)))) for i in range(STEPS)]


def run_trainer(batches, teacher, folder):
    """The moments at which steps ended, and the mean loss."""
    times = StepTimes(now)
    student, processor = make_student()
    args = kd.DistillationTrainingArguments(
        folder,
        losses=LOSSES,
        learning_rate=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        max_grad_norm=MAX_GRAD_NORM,
        adam_beta2=BETAS[1],
        adam_epsilon=EPSILON,
        lr_scheduler_type="constant",
        per_device_train_batch_size=1,  # one row of the data set is a whole batch
        train_sampling_strategy="sequential",
        num_train_epochs=1,
        logging_steps=5,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = kd.DistillationTrainer(
        model=student,
        args=args,
        teacher_model=teacher,
        train_dataset=batches,
        data_collator=first,
        processing_class=processor,
        callbacks=[times],
    )
    return times.moments, trainer.train().training_loss


def run_loop(batches, teacher, folder):
    """The same, by hand."""
    student, _ = make_student()
    losses = LossSum(LOSSES, CLIPDims.of(student), teacher.dims)
    parameters = [*student.parameters(), *losses.parameters()]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": WEIGHT_DECAY},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=LEARNING_RATE,
        betas=BETAS,
        eps=EPSILON,
        fused=True,  # The Trainer also sets it.
    )

    def step(batch):
        # A function, so that a step's tensors are gone before the next one, as in the Trainer.
        teacher_features = teacher.of_batch(batch)
        features = CLIPFeatures(
            pooled(student.get_image_features(pixel_values=batch["pixel_values"])),
            pooled(student.get_text_features(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])),
            logit_scale=student.logit_scale.exp(),
        )
        loss, _ = losses(features, teacher_features)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, MAX_GRAD_NORM)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            student.logit_scale.clamp_(max=math.log(100))
        losses.clamp_scales_()
        return loss.detach()

    student.train()
    moments, values = [], []
    for batch in DataLoader(batches, batch_size=1, collate_fn=first):
        values.append(step(batch))
        moments.append(now())
    return moments, torch.stack(values).mean().item()


def measure():
    """Return a step's median seconds in each repeat, by clock, for the trainer and a loop before and after it."""
    teacher = make_teacher()
    batches = make_batches(make_student()[1], teacher)
    runs = {"before": run_loop, "trainer": run_trainer, "after": run_loop}
    seconds = {clock: {name: [] for name in runs} for clock in ("wall", "cpu")}
    with tempfile.TemporaryDirectory() as folder:
        run_loop(batches, teacher, folder)
        for _ in range(REPEATS):
            mean_losses = {}
            for name, run in runs.items():
                moments, mean_losses[name] = run(batches, teacher, folder)
                moments = moments[WARM_UP:]
                for clock, readings in zip(seconds, zip(*moments, strict=True), strict=True):
                    steps = [b - a for a, b in zip(readings[:-1], readings[1:], strict=True)]
                    seconds[clock][name].append(statistics.median(steps))
            if not math.isclose(mean_losses["trainer"], mean_losses["before"], rel_tol=1e-3):
                raise SystemExit(f"The trainer and the loop did not do the same work: {mean_losses}.")
    return seconds


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


def main():
    """Measure, write the JSON and return it."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    seconds = measure()
    loops = [(a + b) / 2 for a, b in zip(seconds["wall"]["before"], seconds["wall"]["after"], strict=True)]
    given = seconds["wall"]["trainer"], loops
    return write(
        "trainer_overhead",
        {
            "rows": [row("a step of small models", "the same work in a bare loop", *given, "s", at_most=1.05)],
            **compare(**seconds["wall"]),
            "cpu_time": compare(**seconds["cpu"]),
            "repeats": REPEATS,
            "steps_per_repeat": STEPS - WARM_UP - 1,
            "batch": BATCH,
            "losses": LOSSES,
            "machine": machine("torch", "transformers", "accelerate", threads=torch.get_num_threads()),
        },
    )


if __name__ == "__main__":
    main()
