"""Reads by which a host waits for its device: numbers and sizes that only the data tell."""

import traceback
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Trainer, TrainerCallback

aten = torch.ops.aten
# Operations whose result is a number of Python, or has a size that the data tell.
READS = {
    aten._local_scalar_dense,
    aten._unique2,
    aten.bincount,
    aten.equal,
    aten.masked_select,
    aten.nonzero,
    aten.unique_consecutive,
    aten.unique_dim,
}
# Indexing by a mask looks for its places first.
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
# Copies to the host. A tensor on a CPU has no operation for them, so their methods are counted.
COPIES = ("cpu", "numpy", "tolist")
TORCH = str(Path(torch.__file__).parent)


class DeviceReads(TrainerCallback):
    """
    Count such reads between the first and the last step of a training, the fetching of batches apart.

    `sites` has the place of each read, as FILE:LINE. A copy by `.to("cpu")` counts if it names the device so. On a CPU
    `.to(device)` cannot be told from a copy that stays.
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
            for name in (*COPIES, "to"):
                setattr(torch.Tensor, name, self._counted(name))
            try:
                with _Operations(self):
                    yield self
            finally:
                for name in (*COPIES, "to"):
                    delattr(torch.Tensor, name)

    def note(self):
        """Note a read, if reads count now."""
        if self.counting:
            frames = [x for x in traceback.extract_stack() if not x.filename.startswith((__file__, TORCH))]
            self.sites.append(f"{frames[-1].filename.rpartition('site-packages/')[2]}:{frames[-1].lineno}")

    def _paused(self, function):
        def paused(*args, **kwargs):
            counting, self.counting = self.counting, False
            try:
                return function(*args, **kwargs)
            finally:
                self.counting = counting

        return paused

    def _counted(self, name):
        method = getattr(torch._C.TensorBase, name)

        def counted(tensor, *args, **kwargs):
            if name != "to" or "cpu" in [x for x in (*args, *kwargs.values()) if isinstance(x, str)]:
                self.note()
            return self._paused(method)(tensor, *args, **kwargs)  # a read that another one makes counts once

        return counted


class _Operations(TorchDispatchMode):
    """Watch the operations below Python's methods and below the autograd."""

    def __init__(self, reads):
        super().__init__()
        self.reads = reads

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        packet = function.overloadpacket
        sized = function in (aten.repeat_interleave.Tensor, aten.repeat_interleave.self_Tensor)
        if packet in READS or (sized and not (kwargs or {}).get("output_size")):
            self.reads.note()
        elif packet in INDEXING and any(x is not None and x.dtype in (torch.bool, torch.uint8) for x in args[1]):
            self.reads.note()
        return function(*args, **(kwargs or {}))
