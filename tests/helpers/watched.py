"""Trainers that say on a board what they are doing, so that another process can strike at a chosen moment."""

import time

from board import Board

import hf_clip_kd.training.checkpoints
import hf_clip_kd.training.pushing
from hf_clip_kd.distillation.trainer import DistillationTrainer
from hf_clip_kd.vlm import LlavaTrainer


class Watched:
    """The part of a trainer that tells its board of steps and savings."""

    board: Board

    def training_step(self, *args, **kwargs):
        with self.board.phase("forward"):
            return super().training_step(*args, **kwargs)

    def create_optimizer(self, *args, **kwargs):
        optimizer = super().create_optimizer(*args, **kwargs)
        optimizer.step = self._within("optimizer", optimizer.step)
        return optimizer

    def _save_checkpoint(self, *args, **kwargs):
        with self.board.phase("saving"):
            super()._save_checkpoint(*args, **kwargs)

    def watch(self):
        """Tell the board of rotations and pushes, too, which are functions of this process."""
        checkpoints, pushing = hf_clip_kd.training.checkpoints, hf_clip_kd.training.pushing
        rotate = checkpoints.rotate

        def slowly(*args):
            time.sleep(0.004)  # stands for large files, and lets a kill strike before
            rotate(*args)

        checkpoints.rotate = self._within("rotating", slowly)
        pushing._push_checkpoint = self._within("pushing", pushing._push_checkpoint)

    def _within(self, phase, function):
        def watched(*args, **kwargs):
            with self.board.phase(phase):
                return function(*args, **kwargs)

        return watched


class WatchedDistillation(Watched, DistillationTrainer):
    pass


class WatchedLlava(Watched, LlavaTrainer):
    pass


def watched_collator(collate, board):
    """Collate as `collate` does, a little slower and seen from outside; it keeps its attributes."""

    def watched(self, rows):
        with board.phase("data"):
            time.sleep(0.003)  # stands for decoding
            return collate(rows) if self is None else super(kind, self).__call__(rows)

    if not isinstance(collate, type(watched)):
        kind = type(type(collate).__name__, (type(collate),), {"__call__": watched})
        collate.__class__ = kind
        return collate
    return lambda rows: watched(None, rows)
