"""Counts of all dataloader workers, in shared memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.utils.data import get_worker_info

SLOTS = 256


class WorkerCounts:
    """
    Named counts that dataloader workers add to and the main process reads.

    Each worker writes to a row of its own, which needs no lock.

    Args:
        columns (`Sequence[str]`): Names of the counts.
    """

    def __init__(self, columns: Sequence[str]):
        self.columns = list(columns)
        self.table = torch.zeros(SLOTS, len(self.columns), dtype=torch.int64).share_memory_()

    def add(self, column: str, number: int = 1) -> None:
        # NumPy adds to the same memory ten times as fast, and this is done for each row.
        self.table.numpy()[worker_slot(), self.columns.index(column)] += number

    def total(self, column: str) -> int:
        """Return the sum over all workers."""
        return int(self.table[:, self.columns.index(column)].sum())


def too_many(left_out: int, seen: int, max_fraction: float, *, least: int, ended: bool) -> bool:
    """
    Tell if more rows were left out than may be.

    From `least` rows on, the share decides. Before, a large share may be chance, and the run goes on. At the end, half
    of fewer rows are too many, and so is more than the share of `least` rows. No usable row at all is too few at any
    share.

    Args:
        left_out (`int`), seen (`int`): Rows left out, and all rows.
        max_fraction (`float`): Largest share of rows left out, between 0 and 1.
        least (`int`): Rows to see before the share alone decides.
        ended (`bool`): `True` if no row follows.
    """
    above = left_out > max_fraction * seen
    if seen < least:
        above = ended and above and (2 * left_out >= seen or left_out > max_fraction * least)
    return above or (ended and 0 < seen == left_out)


def worker_slot() -> int:
    """Return the row of this process in shared memory: 0 in the main process."""
    worker = get_worker_info()
    return 0 if worker is None else 1 + worker.id % (SLOTS - 1)


__all__ = ["SLOTS", "WorkerCounts", "too_many", "worker_slot"]
