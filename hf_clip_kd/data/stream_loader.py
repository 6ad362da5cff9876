"""Batches of a stream, and the place from which to go on after the last one that was used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

STATE = "__state__"


class StreamLoader(DataLoader):
    """
    The dataloader of a [`Stream`], with the `state_dict` and `load_state_dict` of a stateful dataloader.

    Workers read ahead, so the state is not theirs: each batch says from where on to read after it, and what counts is the
    last batch that was handed out.

    Args:
        stream ([`Stream`]): What to read.
        batch_size (`int`): Rows in a batch.
        collate_fn (`Callable`): Rows to a batch.
        num_workers (`int`, *optional*, defaults to `0`) and other `kwargs`: As for `torch.utils.data.DataLoader`.
    """

    def __init__(self, stream: Any, batch_size: int, collate_fn: Callable, *, num_workers: int = 0, **kwargs: Any):
        # A generator of its own for the seeds of workers: to begin anew after a resume must not move that of the model.
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
        """Where this process is, in the types of JSON."""
        states = {str(worker): state for worker, state in self._states.items()}
        return {**self._readers(), "next": self._next, "states": states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Go on from there.

        Raises:
            ValueError: if the data is dealt out to other readers than it was.
        """
        readers = {name: state[name] for name in self._readers()}
        if readers != self._readers():
            raise ValueError(
                f"The run that is resumed read its data with {readers}, this one with {self._readers()}. A stream goes on "
                "exactly only with the same readers. Use as many processes, workers (`dataloader_num_workers`) and data "
                "sets as before, or start from the weights alone: `model_name_or_path`."
            )
        self._next = state["next"]
        self._states = {int(worker): tuple(value) for worker, value in state["states"].items()}


class _Stated:
    """A collator that hands the state of the last row through."""

    def __init__(self, collate_fn: Callable):
        self.collate_fn = collate_fn

    def __call__(self, rows: list[dict[str, Any]]) -> tuple[tuple, Any]:
        return rows[-1][STATE], self.collate_fn([{k: v for k, v in row.items() if k != STATE} for row in rows])
