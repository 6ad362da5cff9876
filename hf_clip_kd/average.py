"""A moving average of what is trained: steadier than the last weights, kept beside them, and left in their place in the end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

AVERAGE_NAME = "ema.safetensors"


# No `repr` of its own: it would hide that of the arguments it is mixed into.
@dataclass(repr=False)
class AverageArguments:
    ema_decay: float | None = field(
        default=None,
        metadata={
            "help": "Keep an exponential moving average of all that is trained, 0.9999 for long runs; early steps use at most "
            "`(1 + step) / (10 + step)`, so that the first weights are soon forgotten. Checkpoints hold it as `ema.safetensors`."
        },
    )
    ema_evaluate: bool = field(
        default=True,
        metadata={
            "help": "Evaluate the average and leave it as the trained student. False does both with the last weights, and leaves "
            "the average beside them as `ema.safetensors`."
        },
    )

    def __post_init__(self):
        super().__post_init__()
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ValueError(
                f"`ema_decay={self.ema_decay}` is no share of the old average. It must be at least 0 and below 1. Pass "
                "`--ema_decay 0.9999`, or less for a short run."
            )


class Average:
    """
    An exponential moving average of a module's trained parameters and of its floating buffers, such as BatchNorm's.

    It is kept in float32 at least: half precision would round away what one step adds.

    Args:
        model (`nn.Module`): The module, whole on this process.
        decay (`float`): Share of the old average after each step, once there have been enough of them.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.model = model
        self.decay = decay
        frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
        state = model.state_dict()
        self.names = [name for name, x in state.items() if x.is_floating_point() and name not in frozen]
        self.values = [_full(x).clone(memory_format=torch.preserve_format) for x in self._live()]

    def _live(self) -> list[Tensor]:
        state = self.model.state_dict()
        return [state[name] for name in self.names]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step number `step`, the first being 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.values, [_full(x) for x in self._live()], 1 - decay)

    @torch.no_grad()
    def leave(self) -> None:
        """Put the average in the place of the model's own weights."""
        for live, average in zip(self._live(), self.values, strict=True):
            live.copy_(average)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model with its average, and afterwards with its own weights again, bit for bit."""
        own = [x.clone(memory_format=torch.preserve_format) for x in self._live()]
        self.leave()
        yield
        with torch.no_grad():
            for live, value in zip(self._live(), own, strict=True):
                live.copy_(value)

    def save(self, path: str) -> None:
        state = {name: value.contiguous() for name, value in zip(self.names, self.values, strict=True)}
        save_file(state, path, metadata={"format": "pt"})

    def load(self, path: str) -> None:
        """
        Go on from a saved average.

        Raises:
            ValueError: if there is none, or one of other weights.
        """
        state = load_file(path) if os.path.isfile(path) else {}
        if set(state) != set(self.names):
            what = f"averages {len(state)} tensors, and this run trains {len(self.names)}" if state else "is not there"
            raise ValueError(
                f"`ema_decay={self.decay}`, and {path} {what}. A run is resumed with the average that it had. Leave `ema_decay` "
                "out, or start anew from the saved student with `model_name_or_path`."
            )
        for name, value in zip(self.names, self.values, strict=True):
            value.copy_(state[name])


class KeepsAverage:
    """Mixed into a [`~transformers.Trainer`]: with `args.ema_decay` the average is updated, evaluated, saved and resumed."""

    average: Average | None = None

    def _prepare_for_training(self, max_steps, train_dataloader, resume_from_checkpoint):
        prepared = super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)
        if self.args.ema_decay is not None:
            if self.is_fsdp_enabled or self._is_zero3():
                raise ValueError(
                    f"`ema_decay={self.args.ema_decay}` with weights that are sharded over processes. An average needs them whole "
                    "on each. Launch with DDP or ZeRO 1 or 2, or leave `ema_decay` out."
                )
            self.average = Average(self.model, self.args.ema_decay)
            self._averaged_step = self.state.global_step
            if resume_from_checkpoint is not None:
                self.average.load(os.path.join(resume_from_checkpoint, AVERAGE_NAME))
        return prepared

    def _is_zero3(self) -> bool:
        plugin = self.accelerator.state.deepspeed_plugin if self.is_deepspeed_enabled else None
        return plugin is not None and plugin.zero_stage == 3

    def _maybe_log_save_evaluate(self, *args, **kwargs):
        # Called after each step, before anybody reads the average, and once more at the end of an epoch.
        if self.average is not None and self.state.global_step > self._averaged_step:
            self._averaged_step = self.state.global_step
            self.average.update(self.state.global_step)
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def _evaluate(self, *args, **kwargs):
        with self.average.in_place() if self._evaluates_average() else nullcontext():
            return super()._evaluate(*args, **kwargs)

    def _finalize_training(self, *args, **kwargs):
        output = super()._finalize_training(*args, **kwargs)  # the best model, and its average, are loaded there
        if self._evaluates_average():
            self.average.leave()
            self.average = None
        return output

    def _evaluates_average(self) -> bool:
        return self.average is not None and self.args.ema_evaluate

    def _save_average(self, folder: str) -> None:
        if self.average is not None:
            self.average.save(os.path.join(folder, AVERAGE_NAME))

    def _load_average(self, folder: str) -> None:
        if self.average is not None:
            self.average.load(os.path.join(folder, AVERAGE_NAME))


def _full(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
