"""Reads by which a host waits for its device: numbers of tensors that become numbers of Python."""

import traceback
from contextlib import contextmanager
from unittest import mock

import torch
from transformers import Trainer, TrainerCallback

READS = ("item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__")


class DeviceReads(TrainerCallback):
    """
    Count such reads between the first and the last step of a training, the fetching of batches apart.

    `sites` has the place of each read, as FILE:LINE.
    """

    def __init__(self):
        self.sites, self.steps, self.counting = [], 0, False

    def on_step_begin(self, args, state, control, **kwargs):
        self.counting = True

    def on_step_end(self, args, state, control, **kwargs):
        self.steps += 1
        self.counting = state.global_step < state.max_steps

    @contextmanager
    def watching(self):
        """Count in this context."""
        with mock.patch.object(Trainer, "get_batch_samples", self._paused(Trainer.get_batch_samples)):
            for name in READS:
                setattr(torch.Tensor, name, self._counted(name))
            try:
                yield self
            finally:
                for name in READS:
                    delattr(torch.Tensor, name)

    def _paused(self, fetch):
        def fetched(*args, **kwargs):
            counting, self.counting = self.counting, False
            try:
                return fetch(*args, **kwargs)
            finally:
                self.counting = counting

        return fetched

    def _counted(self, name):
        read = getattr(torch._C.TensorBase, name)

        def counted(tensor, *args, **kwargs):
            counting, self.counting = self.counting, False  # a read that another one makes counts once
            if counting:
                self.sites.append(self._site())
            try:
                return read(tensor, *args, **kwargs)
            finally:
                self.counting = counting

        return counted

    @staticmethod
    def _site():
        frames = [frame for frame in traceback.extract_stack() if frame.filename != __file__]
        return f"{frames[-1].filename.rpartition('site-packages/')[2]}:{frames[-1].lineno}"
