"""An exponential moving average of what is trained: steadier than the last weights, and in their place in the end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import TrainerCallback

from ..models.precision import upcast
from .arguments import RunArguments
from .checkpoint_reading import load_part
from .distributed import rank
from .sharded import is_sharded, load_local_shards, local_shards, whole_values

AVERAGE_NAME = "ema.safetensors"
PART_NAME = "ema_{}.safetensors"  # holds the part of one process


class Average:
    """
    An exponential moving average of a module's trained parameters and of its floating buffers, such as BatchNorm's.

    The average is in float32 at least: half precision would round away what one step adds. Each process averages its
    own part of weights that are sharded. Frozen weights are left out.

    Args:
        model (`nn.Module`): The module, after an engine has prepared it.
        decay (`float`): Share of the old average after each step, once there have been enough steps.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.model = model
        self.decay = decay
        self.sharded = is_sharded(model)
        saved = model.state_dict().keys()
        live = {name: p for name, p in model.named_parameters() if p.requires_grad}
        live |= {name: x for name, x in model.named_buffers() if name in saved and x.is_floating_point()}
        # FSDP 2 puts other tensors in their place while the module runs, so these are the tensors themselves.
        self.names, self.live = list(live), list(live.values())
        self.values = [upcast(x).clone(memory_format=torch.preserve_format) for x in local_shards(self.live)]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the weights after step number `step`; the first step is 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.values, [upcast(x) for x in local_shards(self.live)], 1 - decay)

    def leave(self) -> None:
        """Put the average in the place of the model's own weights."""
        load_local_shards(self.model, self.live, self.values)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Give the model its average, and afterwards its own weights again, bit for bit, also after an error."""
        own = [x.clone(memory_format=torch.preserve_format) for x in local_shards(self.live)]
        self.leave()
        try:
            yield
        finally:
            load_local_shards(self.model, self.live, own)

    def save(self, folder: str) -> None:
        """
        Write the average into a folder; all processes must call this together.

        The file is `ema.safetensors`. Where weights are sharded, each process also writes its part, from which it
        resumes.
        """
        os.makedirs(folder, exist_ok=True)
        values = self.values
        if self.sharded:
            _write(self.names, self.values, os.path.join(folder, PART_NAME.format(rank())))
            with self.in_place():
                values = whole_values(self.live)
        if rank() == 0:
            _write(self.names, values, os.path.join(folder, AVERAGE_NAME))

    def load(self, folder: str) -> None:
        """
        Replace the average by a saved one.

        Raises:
            ValueError: The folder has no average, or an average of other weights.
        """
        path = os.path.join(folder, PART_NAME.format(rank()) if self.sharded else AVERAGE_NAME)
        state = load_part(path) if os.path.isfile(path) else {}
        trained = {name: value.shape for name, value in zip(self.names, self.values, strict=True)}
        if {name: value.shape for name, value in state.items()} != trained:
            what = f"averages {len(state)} tensors, and this run trains {len(trained)}, or they have other shapes"
            what = what if state else "is not there"
            raise ValueError(
                f"`ema_decay={self.decay}`, and {path} {what}. A run is resumed with the average that it had. Leave "
                "`ema_decay` out, or start anew from the saved student with `model_name_or_path`."
            )
        for name, value in zip(self.names, self.values, strict=True):
            value.copy_(state[name])


class EMACallback(TrainerCallback):
    """
    Keep an [`Average`] in a run with `args.ema_decay`. It is updated after every step, and left in place in the end.

    It begins when an engine has prepared the model. `BaseTrainer` evaluates, saves and loads it, since no event comes
    before an evaluation.

    Args:
        args ([`RunArguments`]): `ema_decay` and `ema_evaluate` of the run.

    Attributes:
        average ([`Average`], *optional*): The average while there is one beside the model's own weights.
        resumed_from (`str`, *optional*): The checkpoint whose average the next training begins with.
    """

    def __init__(self, args: RunArguments):
        self.args = args
        self.average: Average | None = None
        self.resumed_from: str | None = None

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        if args.ema_decay is not None:
            self.average = Average(model, args.ema_decay)
            if self.resumed_from is not None:
                self.average.load(self.resumed_from)

    def on_step_end(self, args, state, control, **kwargs):
        if self.average is not None:
            self.average.update(state.global_step)

    def on_train_end(self, args, state, control, **kwargs):
        if self.average is not None and args.ema_evaluate:
            self.average.leave()
            self.average = None

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Evaluate the average: give it the place of the weights."""
        if self.average is None or not self.args.ema_evaluate:
            yield
            return
        with self.average.in_place():
            yield


def _write(names: list[str], values: list[Tensor], path: str) -> None:
    state = {name: value.contiguous() for name, value in zip(names, values, strict=True)}
    save_file(state, path, metadata={"format": "pt"})
