"""The parts of a loss in the log, each one by its name."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor


class LogsParts:
    """
    Mixed into a [`~transformers.Trainer`] that notes the parts of its losses: every log has the mean of each part since
    the last one, as `loss/NAME` or `eval_loss/NAME`.
    """

    def __init__(self, *args, **kwargs):
        self._loss_parts: dict[str, dict[str, list[Tensor]]] = {"train": defaultdict(list), "eval": defaultdict(list)}
        self._shares: dict[str, list[float]] = {"train": [], "eval": []}
        super().__init__(*args, **kwargs)

    def note_parts(self, mode: str, parts: dict[str, Tensor], share: float) -> None:
        """Keep the parts of one micro-batch, which is `share` of a step, for the log of `mode`, `train` or `eval`."""
        for name, part in parts.items():
            self._loss_parts[mode][name].append(share * part.detach())
        self._shares[mode].append(share)

    def _forget_step(self) -> None:
        """Leave a skipped step out of the means; see [`GuardsSteps`]."""
        super()._forget_step()
        for values in (*self._loss_parts["train"].values(), self._shares["train"]):
            del values[-len(self._window) :]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        for mode, total, prefix in (("train", "loss", "loss/"), ("eval", "eval_loss", "eval_loss/")):
            if total in logs:
                # Every process computes the losses of the global batch, so there is nothing to average across them.
                for name, parts in self._loss_parts[mode].items():
                    if parts:  # skipped steps leave none
                        logs[prefix + name] = torch.stack(parts).sum().item() / sum(self._shares[mode])
                self._loss_parts[mode].clear()
                self._shares[mode].clear()
        super().log(logs, start_time)
