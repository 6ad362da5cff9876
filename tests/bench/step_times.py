"""Seconds of a training step."""

import time

import torch
from transformers import TrainerCallback
from turns import median_gap

import hf_clip_kd as kd


class StepTimes(TrainerCallback):
    """The moments at which steps end, by a clock."""

    def __init__(self, clock=time.perf_counter):
        self.clock, self.moments = clock, []

    def on_step_end(self, args, state, control, **kwargs):
        self.moments.append(self.clock())


def step_seconds(student, teacher, collator, rows, folder, *, losses, batch, steps, warm_up, readers=()):
    """Median seconds of a step in a fresh training, without the first steps."""
    torch.manual_seed(0)
    model, processor = kd.load_clip(student)
    times = StepTimes()
    args = kd.DistillationTrainingArguments(
        folder,
        losses=losses,
        per_device_train_batch_size=batch,
        train_sampling_strategy="sequential",
        num_train_epochs=1,
        logging_steps=steps,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = kd.DistillationTrainer(
        model=model,
        args=args,
        teacher_model=teacher,
        train_dataset=rows,
        data_collator=collator,
        processing_class=processor,
        callbacks=[times],
        readers=readers,
    )
    trainer.train()
    return median_gap(times.moments, warm_up)
