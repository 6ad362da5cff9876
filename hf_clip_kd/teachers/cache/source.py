"""Rows in batches that never cross the border of a shard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import Dataset


class ShardedRows(Dataset):
    """
    A data set or a stream, read front to back, as (position, row).

    Dataloader workers read a data set. The main process reads a stream, and hands them undecoded rows. Workers that
    open a stream share out its files, and with them its order.

    Args:
        dataset (`datasets.Dataset` or `datasets.IterableDataset`): The rows.
        shard_size (`int`), batch_size (`int`): Rows of a shard, and of a batch at most.

    Attributes:
        rows (`int`), shards (`int`): Numbers of rows and shards; a stream counts those met so far.
    """

    def __init__(self, dataset: Any, shard_size: int, batch_size: int):
        self.shard_size, self.batch_size = shard_size, batch_size
        self.indexed = hasattr(dataset, "__len__")
        # A stream stays out of the object that workers get.
        self.dataset, self._stream = (dataset, None) if self.indexed else (None, dataset)
        self.rows = len(dataset) if self.indexed else 0
        self.shards = -(-self.rows // shard_size)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_stream": None}

    def __getitem__(self, item: int | tuple[int, dict]) -> tuple[int, dict]:
        return (item, self.dataset[item]) if self.indexed else item

    def batches(self, wanted: Callable[[int], bool] = lambda shard: True) -> Iterator[list]:
        """Yield the arguments of `__getitem__`, batch by batch, for the shards that are `wanted`."""
        batch: list = []
        for position, item in enumerate(range(len(self.dataset)) if self.indexed else self._stream):
            shard = position // self.shard_size
            self.rows, self.shards = max(self.rows, position + 1), max(self.shards, shard + 1)
            full = len(batch) == self.batch_size or position % self.shard_size == 0
            if batch and full:
                yield batch
                batch = []
            if wanted(shard):
                batch.append(item if self.indexed else (position, item))
        if batch:
            yield batch

    def count_batches(self, wanted: Callable[[int], bool]) -> int | None:
        """Count what [`batches`] yields, without reading a row. A stream does not know: `None`."""
        if not self.indexed:
            return None
        starts = range(0, self.rows, self.shard_size)
        sizes = [min(self.shard_size, self.rows - start) for shard, start in enumerate(starts) if wanted(shard)]
        return sum(-(-size // self.batch_size) for size in sizes)
