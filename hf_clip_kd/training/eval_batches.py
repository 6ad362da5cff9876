"""Batches of an evaluation: each row once, none dropped and none repeated, over all processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader, IterableDataset
from transformers import TrainingArguments


def deal(rows: Iterable, size: int, rank: int, world_size: int, nearest: bool) -> Iterator[list]:
    """
    Deal rows out into batches, and each batch to the processes, in order.

    All batches have `size` rows. The fewer than `2 * size` rows at the end become one or two batches of equal size.
    A row alone would have no other to be compared with, and its contrastive loss would be 0.

    Args:
        rows (`Iterable`): All rows, the same on each process.
        size (`int`): Rows in a batch of all processes.
        rank, world_size (`int`): Index of this process, and number of processes.
        nearest (`bool`): Make the last batches as near to `size` as can be, with 0.75 to 1.5 times as many rows. False
            gives them at most `size`. Fewer rows than that are one batch.

    Yields:
        `list`: The rows of each batch that belong to this process, at least one.

    Raises:
        ValueError: There are fewer rows than processes.
    """
    held = []
    for row in rows:
        held.append(row)
        if len(held) == 2 * size:
            yield _part(held[:size], rank, world_size)
            del held[:size]
    if not held:
        return
    if len(held) < world_size:
        raise ValueError(
            f"An evaluation of {len(held)} rows on {world_size} processes. Each process needs a row. Evaluate more "
            "rows, or on fewer processes."
        )
    wanted = round(len(held) / size) if nearest else -(-len(held) // size)
    count = min(max(1, wanted), len(held) // world_size)
    for index in range(count):
        yield _part(_part(held, index, count), rank, world_size)


def _part(rows: list, index: int, count: int) -> list:
    return rows[len(rows) * index // count : len(rows) * (index + 1) // count]


class DealtRows(IterableDataset):
    """
    Batches of a stream of rows, not collated yet. Each dataloader worker deals out the rows that it reads.

    Args:
        rows (`IterableDataset`): A stream with an end, in the same order on each process.
        options: See [`deal`].
    """

    def __init__(self, rows: IterableDataset, **options: Any):
        self.rows, self.options = rows, options

    def __iter__(self) -> Iterator[list]:
        return deal(self.rows, **self.options)


def eval_dataloader(dataset: Any, collate: Callable, args: TrainingArguments, nearest: bool) -> DataLoader:
    """
    Return the dataloader of an evaluation, which [`deal`] fills.

    accelerate would repeat rows until the processes have equally many. A repeated row is a false negative of its twin.

    Args:
        dataset: Rows by index, or a stream of rows.
        collate (`Callable`): Rows to a batch.
        args ([`~transformers.TrainingArguments`]): Batch size, workers and processes.
        nearest (`bool`): See [`deal`].
    """
    share = {
        "size": args.eval_batch_size * args.world_size,
        "rank": args.process_index,
        "world_size": args.world_size,
        "nearest": nearest,
    }
    if isinstance(dataset, IterableDataset):
        source = {"dataset": DealtRows(dataset, **share), "batch_size": None}
    else:
        source = {"dataset": dataset, "batch_sampler": list(deal(range(len(dataset)), **share))}
    loader = DataLoader(
        **source,
        collate_fn=collate,
        num_workers=args.dataloader_num_workers,
        pin_memory=args.dataloader_pin_memory,
        prefetch_factor=args.dataloader_prefetch_factor,
        multiprocessing_context=args.dataloader_multiprocessing_context,
    )
    # The batches are dealt out, so accelerate only tells which is the last.
    return prepare_data_loader(loader, num_processes=1, process_index=0)
