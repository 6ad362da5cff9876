"""Means of what a run computes in every step, such as the parts of its loss, for the log."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

# The Trainer's key for the loss in a log of each mode. Names of an evaluation have the prefix `eval_`.
LOSS_KEYS = {"train": "loss", "eval": "eval_loss"}


class Meters:
    """
    Collect numbers by name, and give the log their means since the last log.

    A number stays on its device until then, so that collecting costs no synchronisation.
    """

    def __init__(self):
        self.values: dict[str, dict[str, list[tuple[float, Tensor]]]] = {mode: defaultdict(list) for mode in LOSS_KEYS}

    def add(self, mode: str, values: dict[str, Tensor], share: float = 1.0) -> None:
        """
        Keep the numbers of one micro-batch.

        Args:
            mode (`str`): `train` or `eval`.
            values (`dict[str, Tensor]`): 0-dim tensors by their names in the log.
            share (`float`): The micro-batch's weight in the mean, normally its part of a step.
        """
        for name, value in values.items():
            # The product is a copy: `value` may be a view of a weight that the step is about to change.
            self.values[mode][name].append((share, share * value.detach()))

    def forget_last(self, count: int) -> None:
        """Drop the numbers of the last `count` micro-batches of the training, whose step was skipped."""
        for kept in self.values["train"].values():
            del kept[-count:]

    def read(self, logs: dict[str, float]) -> dict[str, float]:
        """Return the means that belong into `logs`, a log of the training or of an evaluation, and begin anew."""
        means = {}
        for mode, loss in LOSS_KEYS.items():
            if loss not in logs:
                continue
            # Every process computes the numbers of the global batch, so there is nothing to average across them.
            for name, kept in self.values[mode].items():
                if kept:  # skipped steps leave nothing
                    total = torch.stack([value for _, value in kept]).sum().item()
                    means[loss.removesuffix("loss") + name] = total / sum(share for share, _ in kept)
            self.values[mode].clear()
        return means
