"""Runs of two processes that do not agree, or that lose one. Each process leaves in a file what it was told."""

import importlib
import logging
import multiprocessing
import os
import signal
import time

import psutil
import torch
from engine_runs import forget_engine
from killed_runs import digest
from miniature import ALL_LOSSES, Pairs, Teacher, collate, make_args, make_clip
from processes import join
from transformers import TrainerCallback

import hf_clip_kd.training.agreement
import hf_clip_kd.training.peers
from hf_clip_kd.distillation.trainer import DistillationTrainer

# Changes on rank 1, and the words that name them.
DISAGREEMENTS = {
    "YAML": ({"learning_rate": 1e-3}, "arguments.learning_rate: 0.01 on rank 0, 0.001 on rank 1"),
    "log": ({"logging_steps": 2}, "arguments.logging_steps: 1 on rank 0, 2 on rank 1"),
    "objective": ({"losses": {**ALL_LOSSES, "fd": 3.0}}, "on rank 1"),
    "length": ({"rows": 24}, "rows.train: 40 on rank 0, 24 on rank 1"),
    "version": ({"version": "0.1"}, "versions.torch: "),
    "student": ({"width": 32}, "model.parameters: "),
    "teacher": ({"teacher": 5}, "teacher.weights: "),
}
# Fates of a rank in its third step, and the words for them.
LOSSES = {
    "killed": "killed or stopped",
    "stopped": "killed or stopped",
    "failed": "ended: ValueError: this row cannot be read",
    "worker": "ended: RuntimeError: A dataloader worker has died",
}
TIMEOUT = 20


def make_run(folder, rows=40, width=16, teacher=1, version=None, **settings):
    torch.manual_seed(0)
    if version is not None:
        hf_clip_kd.training.agreement.version = lambda package: version
    args = make_args(
        folder,
        **{"per_device_train_batch_size": 4, "max_steps": 5, "ema_decay": 0.9, "ema_evaluate": False} | settings,
    )
    teacher = Teacher(make_clip(24, 20, seed=teacher))
    return DistillationTrainer(make_clip(width), args, teacher, Pairs(rows), data_collator=collate)


class Lose(TrainerCallback):
    """Lose this process in its third step."""

    def __init__(self, how):
        self.how = how

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step != 2:
            return
        if self.how == "failed":
            raise ValueError("this row cannot be read")
        if self.how == "worker":
            # The system does so where memory runs out. The news interrupts the sleep.
            psutil.Process().children()[0].kill()
            time.sleep(60)
        os.kill(os.getpid(), {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP}[self.how])


def told(run):
    """Return the error in which a run ends."""
    try:
        run().train()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def disagree(rank, port, folder):
    """All disagreements, one after the other in the same processes."""
    join(rank, 2, port)
    version, found = hf_clip_kd.training.agreement.version, {}
    for name, (changes, _) in DISAGREEMENTS.items():
        found[name] = told(lambda changes=changes, name=name: make_run(f"{folder}/{name}", **changes if rank else {}))
        hf_clip_kd.training.agreement.version = version
        forget_engine()
    torch.save(found, f"{folder}/{rank}.pt")
    os._exit(0)


def lose(rank, port, folder, victim, how, timeout):
    """Lose one rank; the other says what it was told, and after how long."""
    join(rank, 2, port)
    multiprocessing.set_start_method("fork", force=True)  # dataloader workers are forked outside of a forkserver
    hf_clip_kd.training.peers.BEAT, hf_clip_kd.training.peers.WARN_SECONDS = 0.3, 2
    warned = []
    logging.getLogger("hf_clip_kd.training.peers").addFilter(lambda record: warned.append(record.getMessage()) or True)
    workers = {"dataloader_num_workers": 1} if how == "worker" else {}
    run = make_run(f"{folder}/run", ddp_timeout=timeout, save_strategy="steps", save_steps=1, **workers)
    if rank == victim:
        run.add_callback(Lose(how))
    start = time.monotonic()
    said = told(lambda: run)
    found = {"said": said, "seconds": time.monotonic() - start, "digest": digest(run), "warned": warned}
    torch.save(found, f"{folder}/{rank}.pt")
    os._exit(0)


def recipe(rank, port, folder, name, flags, others):
    """A recipe on two processes. Rank 1 has the flags `others`, or fails at its teacher where these are `None`."""
    join(rank, 2, port)
    hf_clip_kd.training.peers.BEAT = 0.3
    script = importlib.import_module(f"recipes.{name}")
    if rank == 1 and others is None:
        script.kd.load_teacher = lambda *args, **kwargs: _fail()
    try:
        script.main(others if rank == 1 and others is not None else flags)
        said = "nothing"
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    torch.save(said, f"{folder}/{rank}.pt")
    os._exit(0)


def _fail():
    raise ValueError("the teacher does not fit in here")


def jump(rank, port, folder, seconds):
    """A run during which the clock of rank 1 jumps back and forth, between savings, too."""
    join(rank, 2, port)
    clock, calls = time.time, iter(range(10**9))
    if rank == 1:
        time.time = lambda: clock() + (seconds if next(calls) % 2 else -seconds)
    run = make_run(f"{folder}/run", save_strategy="steps", save_steps=1, save_total_limit=1)
    said = told(lambda: run)
    torch.save({"said": said, "digest": digest(run)}, f"{folder}/{rank}.pt")
    os._exit(0)
