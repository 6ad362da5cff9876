"""A moving average of what is trained: steadier than the last weights, kept beside them, and left in their place in the end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .distributed import rank
from .sharded import is_sharded, load_local_shards, local_shards, whole_values

AVERAGE_NAME = "ema.safetensors"
PART_NAME = "ema_{}.safetensors"  # of one process


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

    It is kept in float32 at least: half precision would round away what one step adds. Of weights that are sharded over
    processes, each averages its own part.

    Args:
        model (`nn.Module`): The module, after an engine has taken hold of it.
        decay (`float`): Share of the old average after each step, once there have been enough of them.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.model = model
        self.decay = decay
        self.sharded = is_sharded(model)
        saved = model.state_dict().keys()
        live = {name: p for name, p in model.named_parameters() if p.requires_grad}
        live |= {name: x for name, x in model.named_buffers() if name in saved and x.is_floating_point()}
        # The tensors themselves: under FSDP 2 the module has others in their place during its passes.
        self.names, self.live = list(live), list(live.values())
        self.values = [_full(x).clone(memory_format=torch.preserve_format) for x in local_shards(self.live)]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step number `step`, the first being 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.values, [_full(x) for x in local_shards(self.live)], 1 - decay)

    def leave(self) -> None:
        """Put the average in the place of the model's own weights."""
        load_local_shards(self.model, self.live, self.values)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model with its average, and afterwards with its own weights again, bit for bit."""
        own = [x.clone(memory_format=torch.preserve_format) for x in local_shards(self.live)]
        self.leave()
        yield
        load_local_shards(self.model, self.live, own)

    def save(self, folder: str) -> None:
        """
        Leave the average in a folder; all processes together.

        It is `ema.safetensors`, and where the weights are sharded each process's part besides, from which a run goes on.
        """
        values = self.values
        if self.sharded:
            _write(self.names, self.values, os.path.join(folder, PART_NAME.format(rank())))
            with self.in_place():
                values = whole_values(self.live)
        if rank() == 0:
            _write(self.names, values, os.path.join(folder, AVERAGE_NAME))

    def load(self, folder: str) -> None:
        """
        Go on from a saved average.

        Raises:
            ValueError: if there is none, or one of other weights.
        """
        path = os.path.join(folder, PART_NAME.format(rank()) if self.sharded else AVERAGE_NAME)
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
            self.average = Average(self.model, self.args.ema_decay)
            self._averaged_step = self.state.global_step
            if resume_from_checkpoint is not None:
                self.average.load(resume_from_checkpoint)
        return prepared

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

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        # First, since the parent may push the folder.
        if self.average is not None:
            folder = self.args.output_dir if output_dir is None else output_dir
            os.makedirs(folder, exist_ok=True)
            self.average.save(folder)
        super().save_model(output_dir, _internal_call)

    def _load_average(self, folder: str) -> None:
        if self.average is not None:
            self.average.load(folder)


def _write(names: list[str], values: list[Tensor], path: str) -> None:
    state = {name: value.contiguous() for name, value in zip(names, values, strict=True)}
    save_file(state, path, metadata={"format": "pt"})


def _full(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
