"""Runs that a test kills with SIGKILL: small, started in an instant, and telling from outside what they are doing."""

import hashlib
import multiprocessing
import os
import random
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from miniature import Pairs, Teacher, collate, make_args, make_clip
from processes import free_port
from tar_files import write_tars

import hf_clip_kd.training.checkpoints
from hf_clip_kd.data import CLIPDataCollator, Stream, load_image_text
from hf_clip_kd.distillation.trainer import DistillationTrainer
from hf_clip_kd.models import load_clip

PHASES = ("other", "data", "forward", "optimizer", "saving", "rotating")
# Seconds that a phase lasts here at most. A kill comes at a random moment of it.
LASTS = {"data": 0.003, "forward": 0.03, "optimizer": 0.004, "saving": 0.06, "rotating": 0.003}
PATIENCE = 120


class Board:
    """The phase of a process and its count of each phase, in a file that outlives the process."""

    def __init__(self, path):
        self.cells = np.memmap(path, dtype=np.int64, mode="r+" if path.exists() else "w+", shape=1 + len(PHASES))

    @contextmanager
    def phase(self, name):
        number, before = PHASES.index(name), int(self.cells[0])
        self.cells[0] = number
        self.cells[1 + number] += 1
        yield
        self.cells[0] = before

    def now(self):
        return PHASES[int(self.cells[0])]

    def count(self, name):
        return int(self.cells[1 + PHASES.index(name)])


class Watched(DistillationTrainer):
    """Says on its board what it does."""

    board: Board

    def training_step(self, *args, **kwargs):
        with self.board.phase("forward"):
            return super().training_step(*args, **kwargs)

    def create_optimizer(self, *args, **kwargs):
        optimizer = super().create_optimizer(*args, **kwargs)
        step = optimizer.step

        def watched(*arguments, **options):
            with self.board.phase("optimizer"):
                return step(*arguments, **options)

        optimizer.step = watched
        return optimizer

    def _save_checkpoint(self, *args, **kwargs):
        with self.board.phase("saving"):
            super()._save_checkpoint(*args, **kwargs)


class AnyTeacher(Teacher):
    def prepare(self, request):
        pass

    def forward(self, pixel_values, input_ids, **others):
        return super().forward(pixel_values, input_ids)


def make_run(kind, folder, board, **changes):
    """Make a run with all that has a state: dropout or masks, GradCache, heads, an average, an order, a stream."""
    settings = {
        "max_steps": 8,
        "optim": "adamw_torch",
        "lr_scheduler_type": "cosine",
        "save_strategy": "steps",
        "save_steps": 1,
        "save_total_limit": 1,
        "ema_decay": 0.9,
        "ema_evaluate": False,
        "train_sampling_strategy": "random",
        "gradient_accumulation_steps": 2,
        "ddp_find_unused_parameters": False,
        "logging_strategy": "no",
    }
    torch.manual_seed(0)
    if kind == "map":
        student, teacher, data = make_clip(attention_dropout=0.2), Teacher(make_clip(24, 20, seed=1)), Pairs(40)
        collator = collate
        settings["per_device_train_batch_size"] = 8 // int(os.environ.get("WORLD_SIZE", 1))
    else:
        student, processor = load_clip("test-vit")
        teacher = AnyTeacher(load_clip("test-vit")[0])
        tars = load_image_text("webdataset", data_files=str(Path(folder).parent / "tars" / "*.tar"), streaming=True)
        data = Stream([tars, load_image_text("shapes", max_samples=5)], weights=[2, 1], seed=1, buffer_size=3)
        collator = CLIPDataCollator(processor, crop_scale=(0.3, 1), flip=0.5, seed=3)
        settings |= {
            "losses": {"clip": 1.0, "fd": 1.0, "mfd": {"weight": 1.0, "mask_ratio": 0.5}},
            "per_device_train_batch_size": 4,
            "dataloader_num_workers": 2,
        }

    def watched(rows):
        with board.phase("data"):
            time.sleep(0.003)  # stands for decoding
            return collator(rows)

    watched.epoch = 0
    run = Watched(
        student,
        make_args(folder, **settings | changes),
        teacher_model=teacher,
        train_dataset=data,
        data_collator=watched,
    )
    run.board = board
    rotate = hf_clip_kd.training.checkpoints.rotate_checkpoints

    def rotating(*arguments, **options):
        with board.phase("rotating"):
            rotate(*arguments, **options)

    hf_clip_kd.training.checkpoints.rotate_checkpoints = rotating
    return run


def digest(run):
    """Hash all that a run has learned: weights, heads, scales, optimizer, average, random state."""
    tensors = [*run.model.state_dict().values(), *run.average.values, torch.random.get_rng_state()]
    for state in run.optimizer.state_dict()["state"].values():
        tensors += [value for value in state.values() if torch.is_tensor(value)]
    found = hashlib.sha256(str(run.state.global_step).encode())
    for tensor in tensors:
        found.update(tensor.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


def train(kind, folder, rank, processes, port, changes):
    """Run one process from the last whole checkpoint there is, and leave its digest at the end."""
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # dataloader workers are forked outside of a forkserver
    os.setpgid(0, 0)  # its dataloader workers are killed with it
    if processes > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    run = make_run(kind, folder, Board(folder / f"board-{rank}"), **changes)
    run.train(resume_from_checkpoint="auto")
    path = folder / f"digest-{rank}"
    path.with_suffix(".tmp").write_text(digest(run))
    path.with_suffix(".tmp").replace(path)
    if processes > 1:
        dist.barrier()
        dist.destroy_process_group()
    os._exit(0)


class Launch:
    """One life of a run, on one process or several."""

    def __init__(self, context, kind, folder, processes=1, **changes):
        folder.mkdir(parents=True, exist_ok=True)
        if kind == "stream" and not (folder.parent / "tars").exists():
            (folder.parent / "tars").mkdir()
            write_tars(folder.parent / "tars", (5, 7, 4, 6))
        port = free_port()
        for board in folder.glob("board-*"):
            board.unlink()
        self.boards = [Board(folder / f"board-{rank}") for rank in range(processes)]
        self.processes = [
            context.Process(target=train, args=(kind, folder, rank, processes, port, changes))
            for rank in range(processes)
        ]
        for process in self.processes:
            process.start()

    def alive(self):
        return all(process.is_alive() for process in self.processes)

    def join(self):
        """Wait for the end; the exit codes."""
        for process in self.processes:
            process.join(PATIENCE)
        return [process.exitcode for process in self.processes]

    def kill(self, chance: random.Random, phase, times):
        """
        Kill a random process at a random moment of its `times`-th `phase`, and then the others, as a launcher does.

        Returns the phase that it was in, or None if it had ended before.
        """
        victim = chance.randrange(len(self.processes))
        board, process = self.boards[victim], self.processes[victim]
        end = time.monotonic() + PATIENCE
        while board.count(phase) < times and process.is_alive() and time.monotonic() < end:
            time.sleep(0.0002)
        time.sleep(chance.uniform(0, LASTS[phase]))
        struck = process.is_alive()
        _kill_group(process)
        process.join()
        doing = board.now() if struck and process.exitcode == -9 else None
        time.sleep(chance.uniform(0, 0.05))
        for other in self.processes:
            _kill_group(other)
            other.join()
        return doing


def _kill_group(process):
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        process.kill()  # it has not got so far as to have a group, or is gone


def digests(folder, processes):
    return [(folder / f"digest-{rank}").read_text() for rank in range(processes)]
