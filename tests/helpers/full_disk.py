"""A disk that is full for some steps of a training."""

import resource

from transformers import TrainerCallback


def limit_files(size):
    """Let no file of this process grow beyond `size` bytes; `None` lifts the limit."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard if size is None else size, hard))


class DiskFull(TrainerCallback):
    """No file can grow beyond `size` from step `first` to step `last`. So files stay half written, or empty."""

    def __init__(self, size, first=2, last=3):
        self.size, self.first, self.last = size, first, last

    def on_step_begin(self, args, state, control, **kwargs):
        limit_files(self.size if self.first <= state.global_step + 1 <= self.last else None)

    def on_train_end(self, args, state, control, **kwargs):
        limit_files(None)
