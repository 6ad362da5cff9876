"""Means of what a run computes in every step, such as the parts of its loss, for the log."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from .distributed import sum_over_ranks

MOST = 10_000  # Micro-batches whose numbers are kept apart. A run may never log.


class Meters:
    """
    Collect numbers by name, and give their means: since the last log of a training, and over an evaluation.

    A number stays on its device until then, so that collecting costs no synchronisation.
    """

    def __init__(self):
        # One entry for each micro-batch: its share, and its numbers times the share. Older ones may be summed up.
        self.kept: dict[str, list[tuple[Any, dict[str, Tensor]]]] = {"train": [], "eval": []}
        self.rows = 0

    def add(self, mode: str, values: dict[str, Tensor], share: float | Tensor = 1.0) -> None:
        """
        Keep the numbers of one micro-batch.

        Args:
            mode (`str`): `train` or `eval`.
            values (`dict[str, Tensor]`): 0-dim tensors by their names in the log.
            share (`float` or 0-dim `Tensor`): The micro-batch's weight in the mean. In training that is normally its
                part of a step. In an evaluation it is the number of items that the values are means of.
        """
        # The product is a copy: `value` may be a view of a weight that the step is about to change.
        self.kept[mode].append((share, {name: share * value.detach() for name, value in values.items()}))
        if mode == "train" and len(self.kept[mode]) > MOST:
            self._fold()

    def _fold(self) -> None:
        """Sum up the older half of the training's numbers. The newer one has all that may still be forgotten."""
        older, self.kept["train"] = self.kept["train"][: MOST // 2], self.kept["train"][MOST // 2 :]
        sums = [
            (sum(share for share, _ in kept), {name: torch.stack([value for _, value in kept]).sum()})
            for name, kept in _by_name(older).items()
        ]
        self.kept["train"] = sums + self.kept["train"]

    def forget_last(self, count: int) -> None:
        """Drop the numbers of the last `count` micro-batches of the training, whose step was skipped."""
        del self.kept["train"][-count:]

    def read(self, logs: dict[str, float]) -> dict[str, float]:
        """Return the means that belong into `logs` if it is a log of the training, and begin anew."""
        if "loss" not in logs:
            return {}
        # Every process computes the numbers of the global batch, so there is nothing to average across them.
        means = {
            name: torch.stack([value for _, value in kept]).sum().item() / sum(share for share, _ in kept)
            for name, kept in _by_name(self.kept["train"]).items()
        }
        self.kept["train"].clear()
        return means

    def begin_evaluation(self) -> None:
        """Forget what an evaluation that failed has left."""
        self.kept["eval"].clear()
        self.rows = 0

    def count(self, rows: int) -> None:
        """Count rows that were evaluated on this process."""
        self.rows += rows

    def read_evaluation(self, device: torch.device) -> tuple[dict[str, float], int]:
        """
        Return the means of an evaluation by name, and the number of its rows.

        Both are of all processes, which must call this together. Each batch counts by its share.
        """
        kept = _by_name(self.kept["eval"])
        sums = [torch.stack([value for _, value in values]).cpu().double().sum() for values in kept.values()]
        shares = [sum(float(share) for share, _ in values) for values in kept.values()]
        totals = torch.tensor([*sums, *shares, self.rows], dtype=torch.float32, device=device)
        *totals, rows = sum_over_ranks(totals).tolist()
        pairs = zip(kept, totals[: len(kept)], totals[len(kept) :], strict=True)
        means = {name: total / share if share else float("nan") for name, total, share in pairs}
        self.begin_evaluation()
        return means, int(rows)


def _by_name(entries: list[tuple[Any, dict[str, Tensor]]]) -> dict[str, list[tuple[Any, Tensor]]]:
    """Return share and number of each micro-batch that has the number; a loss may be on for a while only."""
    found: dict[str, list[tuple[Any, Tensor]]] = defaultdict(list)
    for share, values in entries:
        for name, value in values.items():
            found[name].append((share, value))
    return found
