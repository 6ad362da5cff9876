"""Endless rows from one or several sources, dealt out to all processes and workers, in an order that can be taken up anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import datasets
import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from .reading.sources import Data
from .reading.tars import ERROR
from .stream_loader import STATE, StreamLoader
from .transforms.keyed_random import order, source_uniform

Position = tuple[int, int, int]  # of the next row of one reader: pass, shard among the reader's own, row in the shard


class Stream(IterableDataset):
    """
    Rows without end, for data that is larger than the disk and for mixtures of several sources.

    Every process and dataloader worker is a reader with shards of its own; in each pass over the data these are dealt out
    anew. No reader runs dry: one that has read its shards begins its next pass, so all processes make the same number of
    steps, whatever the shards hold. What is damaged becomes a row that [`CLIPDataCollator`] counts and names.

    The order depends on the seed and on the number of readers alone, and a run that is resumed goes on at the very next
    row. Rows of a source that can be indexed come in random order; those of a stream come shard after shard, shuffled
    among their `buffer_size` neighbours.

    Args:
        sources (`Sequence[Dataset | IterableDataset]`, or one of them):
            As [`load_image_text`] makes them, with or without streaming.
        weights (`Sequence[float]`, *optional*):
            Share of each source among the rows, relative to the others; equal shares by default. A small source with a
            large weight is repeated, each time with other crops.
        seed (`int`, *optional*, defaults to `0`):
            Of the order.
        buffer_size (`int`, *optional*, defaults to `5000`):
            Undecoded rows that each reader holds to shuffle them; 1 keeps the order within shards. Not needed, and not used,
            where all sources can be indexed.

    Yields:
        `dict`: a row with its key for [`~hf_clip_kd.data.transforms.keyed_random.row_uniforms`]: `__epoch__`, the pass over its source, and
        `__index__`, its number there (in a stream, `shard * 2**32 + row in the shard`).

    Raises:
        ValueError: for no source, or weights that are no shares of them.
    """

    def __init__(
        self,
        sources: Data | Sequence[Data],
        *,
        weights: Sequence[float] | None = None,
        seed: int = 0,
        buffer_size: int = 5_000,
    ):
        sources = [sources] if isinstance(sources, Data) else list(sources)
        weights = [1.0] * len(sources) if weights is None else list(weights)
        if len(weights) != len(sources) or not all(weight > 0 for weight in weights):
            raise ValueError(
                f"`weights={weights}` do not fit {len(sources)} source(s). There must be one number above 0 for each. Pass "
                "for example `Stream([first, second], weights=[3, 1])`."
            )
        if buffer_size < 1:
            raise ValueError(
                f"`buffer_size={buffer_size}` holds no row. It must be at least 1, which does not shuffle within shards. "
                "Pass `buffer_size=5000`."
            )
        self.sources = [_Table(s, seed) if isinstance(s, datasets.Dataset) else _Shards(s, seed) for s in sources]
        self.limits = np.cumsum(weights) / np.sum(weights)
        self.seed = seed
        self.buffer_size = 1 if all(isinstance(source, _Table) for source in self.sources) else buffer_size
        self.rank, self.world_size, self.first_worker, self.states = 0, 1, 0, {}

    def loader(
        self,
        batch_size: int,
        collate_fn: Callable[[list[dict]], Any],
        *,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        **kwargs: Any,
    ) -> StreamLoader:
        """
        The batches of one process, as a dataloader that knows where it is (see [`StreamLoader`]).

        Raises:
            ValueError: if a source has fewer shards than there are readers, of which some would have nothing to read.
        """
        readers = world_size * max(1, num_workers)
        for number, source in enumerate(self.sources):
            if source.num_shards < readers:
                raise ValueError(
                    f"Source {number} has {source.num_shards} shard(s), and {world_size} process(es) with {num_workers} "
                    f"worker(s) each are {readers} readers. Each reader needs a shard (a file) of its own. Lower "
                    f"`dataloader_num_workers` to {source.num_shards // world_size}, cut the data into more files, or load it "
                    "without streaming."
                )
        self.rank, self.world_size = rank, world_size
        return StreamLoader(self, batch_size, collate_fn, num_workers=num_workers, **kwargs)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        workers = 1 if info is None else info.num_workers
        # Batches come from the workers in turn: after a resume, the first one plays whoever was next.
        worker = 0 if info is None else (info.id + self.first_worker) % workers
        reader, readers = self.rank * workers + worker, self.world_size * workers
        number, positions, done = self.states.get(worker) or (0, [(0, 0, 0)] * len(self.sources), 0)
        rows = self._mixed(reader, readers, number, positions)
        block = list(islice(rows, self.buffer_size))
        while True:
            # One row is read for each that is given out: there is never more than one block in memory.
            (number, positions), following = block[0][0], []
            for count, i in enumerate(order(self.seed, number, len(block), part=reader + 1), start=1):
                row, block[i] = block[i][1], None
                if count > done:
                    yield row | {STATE: (worker, (number, positions, count))}
                following.append(next(rows))
            block, done = following, 0

    def _mixed(self, reader: int, readers: int, number: int, positions: Sequence[Position]) -> Iterator[tuple]:
        """The rows of a reader, each with the state from which it is the next one."""
        positions = [tuple(position) for position in positions]
        rows = [
            source.read(reader, readers, position) for source, position in zip(self.sources, positions, strict=True)
        ]
        while True:
            chosen = 0
            if len(rows) > 1:
                chosen = int(np.searchsorted(self.limits, source_uniform(self.seed, reader, number), side="right"))
            before = number, list(positions)
            positions[chosen], row = next(rows[chosen])
            number += 1
            yield before, row


class _Source:
    """Endless rows of one data set."""

    def __init__(self, dataset: Data, seed: int):
        self.dataset, self.seed = dataset, seed

    def read(self, reader: int, readers: int, position: Position) -> Iterator[tuple[Position, dict[str, Any]]]:
        """Rows from `position` on, each with the position after it."""
        epoch, first, start = position
        while True:
            found = (first, start) != (0, 0)
            for number, shard in islice(
                enumerate(order(self.seed, epoch, self.num_shards)[reader::readers]), first, None
            ):
                for row, values in enumerate(self.rows(int(shard), start), start):
                    found = True
                    index = values.get("__index__", int(shard) << 32 | row)
                    yield (epoch, number, row + 1), values | {"__index__": index, "__epoch__": epoch}
                start = 0
            if not found:
                raise ValueError(
                    f"Reader {reader} of {readers} found no row in any of its shards. Each must find at least one. Leave out "
                    "empty files, or use fewer dataloader workers: `dataloader_num_workers=...`."
                )
            epoch, first = epoch + 1, 0


class _Table(_Source):
    """A data set that can be indexed: each row is a shard."""

    @property
    def num_shards(self) -> int:
        return len(self.dataset)

    def rows(self, shard: int, start: int) -> Iterator[dict[str, Any]]:
        if start == 0:
            yield self.dataset[shard]


class _Shards(_Source):
    """A streamed data set."""

    @property
    def num_shards(self) -> int:
        return self.dataset.num_shards

    def rows(self, shard: int, start: int) -> Iterator[dict[str, Any]]:
        count = start
        try:
            # `iter`, because a plain loop would deal the shard out to the workers once more.
            rows = self.dataset.shard(self.num_shards, shard).skip(start).iter(batch_size=1)
            for row in rows:
                yield {name: values[0] for name, values in row.items()}
                count += 1
        except Exception as error:  # readers fail in many ways; the other shards are still good
            reason = f"the shard is damaged after {count} rows ({type(error).__name__}: {error})"
            yield {"__key__": f"shard {shard} of {self.num_shards}", ERROR: reason}
