"""The place of a run in data that makes its own dataloader."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader
from transformers import TrainingArguments

from ..recipe_io.results import read_written


class StreamPlace:
    """
    Open the dataloader of a data set with a method `loader`, and keep the place in it. Each process has its own.

    Args:
        args ([`~transformers.TrainingArguments`]): The arguments of the run.
    """

    def __init__(self, args: TrainingArguments):
        self.args = args
        self.loader: DataLoader | None = None

    def open(self, dataset: Any, batch_size: int, collate: Callable) -> DataLoader:
        """Return the dataloader of this process. Accelerate must not prepare it, or it would deal the rows again."""
        self.loader = dataset.loader(
            batch_size,
            collate,
            rank=self.args.process_index,
            world_size=self.args.world_size,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            persistent_workers=self.args.dataloader_persistent_workers,
            multiprocessing_context=self.args.dataloader_multiprocessing_context,
        )
        return self.loader

    def save(self, folder: Path) -> None:
        """Write the place into a checkpoint, if there is a dataloader. One of the model alone is never resumed."""
        if self.loader is not None and not self.args.save_only_model:
            self._path(folder).write_text(json.dumps(self.loader.state_dict()))

    def load(self, folder: str | Path) -> bool:
        """Go on from a checkpoint, and return whether there is a dataloader that can."""
        if self.loader is None:
            return False
        self.loader.load_state_dict(read_written(self._path(folder)))
        return True

    def _path(self, folder: str | Path) -> Path:
        return Path(folder, f"stream_state_{self.args.process_index}.json")
