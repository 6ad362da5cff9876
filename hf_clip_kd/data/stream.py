"""Endless rows of one or several sources, divided among processes and workers, in an order that can be resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import datasets
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from .reading.parts import Data
from .reading.tars import ERROR
from .transforms.keyed_random import order, source_uniform

# Place of a reader's next row: the pass, the shard among the reader's own, and the row in the shard.
Position = tuple[int, int, int]

STATE = "__state__"


class Stream(IterableDataset):
    """
    Rows without end, for data that is larger than the disk and for mixtures of several sources.

    Each process, or each of its dataloader workers, is a reader with its own shards. Each pass over the data divides
    the shards among the readers anew. A reader that has read its shards begins its next pass. All processes therefore
    make the same number of steps, with shards of any size. Damaged data becomes a row that [`CLIPDataCollator`] counts
    and names.

    The order depends only on the seed and on the number of readers. A resumed run goes on at the next row.
    Rows of an indexable source come in random order. A streamed source is read shard after shard, and its rows are
    shuffled among `buffer_size` neighbours.

    Args:
        sources (`Sequence[Dataset | IterableDataset]`, or one of them):
            Results of [`load_image_text`], with or without streaming.
        weights (`Sequence[float]`, *optional*):
            Share of each source among the rows, relative to the others. The default is equal shares. A small source
            with a large weight is repeated, each time with other crops.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the order.
        buffer_size (`int`, *optional*, defaults to `5000`):
            Undecoded rows that each reader holds to shuffle them. 1 keeps the order within shards. It is not used if
            all sources are indexable.

    Yields:
        `dict`: a row with the key of its random numbers for
        [`~hf_clip_kd.data.transforms.keyed_random.row_uniforms`]. The key is `__epoch__`, the pass over its source,
        and `__index__`, its number in the source. In a stream, the number is `shard * 2**32 + row in the shard`.

    Raises:
        ValueError: if there is not one weight above 0 for each source, or `buffer_size` is below 1.
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
                f"`weights={weights}` do not fit {len(sources)} source(s). There must be one number above 0 for each. "
                "Pass for example `Stream([first, second], weights=[3, 1])`."
            )
        if buffer_size < 1:
            raise ValueError(
                f"`buffer_size={buffer_size}` holds no row. It must be at least 1, which does not shuffle within "
                "shards. Pass `buffer_size=5000`."
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
        Make the dataloader of one process, which can save and load its place in the data (see [`StreamLoader`]).

        Args:
            batch_size (`int`): Rows in a batch.
            collate_fn (`Callable`): Function that makes a batch of rows.
            rank, world_size (`int`, *optional*, default to `0` and `1`): Number of the process, and of all processes.
            num_workers (`int`, *optional*, defaults to `0`): Dataloader workers of each process.
            kwargs: Other arguments of `torch.utils.data.DataLoader`.

        Raises:
            ValueError: if a source has fewer shards than there are readers.
        """
        readers = world_size * max(1, num_workers)
        for number, source in enumerate(self.sources):
            if source.num_shards < readers:
                raise ValueError(
                    f"Source {number} has {source.num_shards} shard(s), and {world_size} process(es) with "
                    f"{num_workers} worker(s) each are {readers} readers. Each reader needs its own shard (a file). "
                    f"Lower `dataloader_num_workers` to {source.num_shards // world_size}, cut the data into more "
                    "files, or load it without streaming."
                )
        self.rank, self.world_size = rank, world_size
        return StreamLoader(self, batch_size, collate_fn, num_workers=num_workers, **kwargs)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        workers = 1 if info is None else info.num_workers
        # Batches come from the workers in turn. After a resume, the first worker takes the part of the next in turn.
        worker = 0 if info is None else (info.id + self.first_worker) % workers
        reader, readers = self.rank * workers + worker, self.world_size * workers
        number, positions, done = self.states.get(worker) or (0, [(0, 0, 0)] * len(self.sources), 0)
        rows = self._mixed(reader, readers, number, positions)
        block = list(islice(rows, self.buffer_size))
        while True:
            # A new row is read for each row that is yielded, so memory holds at most one block.
            (number, positions), following = block[0][0], []
            for count, i in enumerate(order(self.seed, number, len(block), part=reader + 1), start=1):
                row, block[i] = block[i][1], None
                if count > done:
                    yield row | {STATE: (worker, (number, positions, count))}
                following.append(next(rows))
            block, done = following, 0

    def _mixed(self, reader: int, readers: int, number: int, positions: Sequence[Position]) -> Iterator[tuple]:
        """Yield the rows of a reader, each with the state before it."""
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


class StreamLoader(DataLoader):
    """
    Dataloader of a [`Stream`], with the `state_dict` and `load_state_dict` of a stateful dataloader.

    Workers read ahead, so their place is not the place of the run. Each batch therefore carries the place after it,
    and the state is that of the last batch handed out.

    Args:
        stream ([`Stream`]): Rows to read.
        batch_size (`int`): Rows in a batch.
        collate_fn (`Callable`): Function that makes a batch of rows.
        num_workers (`int`, *optional*, defaults to `0`) and other `kwargs`: As for `torch.utils.data.DataLoader`.
    """

    def __init__(self, stream: Stream, batch_size: int, collate_fn: Callable, *, num_workers: int = 0, **kwargs: Any):
        # The seeds of workers get their own generator. A restart after a resume must not move the model's generator.
        kwargs["generator"] = torch.Generator().manual_seed(stream.seed)
        super().__init__(stream, batch_size, collate_fn=_Stated(collate_fn), num_workers=num_workers, **kwargs)
        self._next = 0
        self._states: dict[int, tuple] = {}

    def __iter__(self) -> Iterator[Any]:
        self.dataset.first_worker, self.dataset.states = self._next, dict(self._states)
        for (worker, state), batch in super().__iter__():
            self._states[worker] = state
            self._next = (worker + 1) % max(1, self.num_workers)
            yield batch

    def _readers(self) -> dict[str, int]:
        return {
            "world_size": self.dataset.world_size,
            "num_workers": self.num_workers,
            "sources": len(self.dataset.sources),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the place of this process in the data, in the types of JSON."""
        states = {str(worker): state for worker, state in self._states.items()}
        return {**self._readers(), "next": self._next, "states": states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Go on from a saved place.

        Raises:
            ValueError: if the data was divided among other readers.
        """
        readers = {name: state[name] for name in self._readers()}
        if readers != self._readers():
            raise ValueError(
                f"The resumed run read its data with {readers}, this run reads with {self._readers()}. A stream can "
                "go on only with the same readers. Use as many processes, workers (`dataloader_num_workers`) and data "
                "sets as before, or start from the weights alone: `model_name_or_path`."
            )
        self._next = state["next"]
        self._states = {int(worker): tuple(value) for worker, value in state["states"].items()}


class _Stated:
    """Collator that passes on the state of the last row."""

    def __init__(self, collate_fn: Callable):
        self.collate_fn = collate_fn

    def __call__(self, rows: list[dict[str, Any]]) -> tuple[tuple, Any]:
        return rows[-1][STATE], self.collate_fn([{k: v for k, v in row.items() if k != STATE} for row in rows])


class _Source:
    """Endless rows of one data set."""

    def __init__(self, dataset: Data, seed: int):
        self.dataset, self.seed = dataset, seed

    def read(self, reader: int, readers: int, position: Position) -> Iterator[tuple[Position, dict[str, Any]]]:
        """Yield rows from `position` on, each with the position after it."""
        epoch, first, start = position
        while True:
            found = (first, start) != (0, 0)
            shards = order(self.seed, epoch, self.num_shards)[reader::readers]
            for number, shard in islice(enumerate(shards), first, None):
                for row, values in enumerate(self.rows(int(shard), start), start):
                    found = True
                    index = values.get("__index__", int(shard) << 32 | row)
                    yield (epoch, number, row + 1), values | {"__index__": index, "__epoch__": epoch}
                start = 0
            if not found:
                raise ValueError(
                    f"Reader {reader} of {readers} found no row in any of its shards. Each must find at least one. "
                    "Leave out empty files, or use fewer dataloader workers: `dataloader_num_workers=...`."
                )
            epoch, first = epoch + 1, 0


class _Table(_Source):
    """Indexable data set, in which each row is a shard."""

    @property
    def num_shards(self) -> int:
        return len(self.dataset)

    def rows(self, shard: int, start: int) -> Iterator[dict[str, Any]]:
        if start == 0:
            yield self.dataset[shard]


class _Shards(_Source):
    """Streamed data set."""

    @property
    def num_shards(self) -> int:
        return self.dataset.num_shards

    def rows(self, shard: int, start: int) -> Iterator[dict[str, Any]]:
        count = start
        try:
            # A plain loop would divide the shard among the workers again. `iter` does not.
            rows = self.dataset.shard(self.num_shards, shard).skip(start).iter(batch_size=1)
            for row in rows:
                yield {name: values[0] for name, values in row.items()}
                count += 1
        except Exception as error:  # Readers raise many types of errors. The other shards are still good.
            reason = f"the shard is damaged after {count} rows ({type(error).__name__}: {error})"
            yield {"__key__": f"shard {shard} of {self.num_shards}", ERROR: reason}
