"""Fit a batch to the memory: it is cut into micro-batches, and the objective stays that of the whole batch."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from transformers import Trainer

from ..training.distributed import any_rank, as_single_process
from .grad_cache import cached_losses, unchanged_buffers

logger = logging.getLogger(__name__)


def fit_batch(trainer: Trainer, largest: int) -> None:
    """
    Cut the batch so that every process can train on a micro-batch, before the first step.

    All processes go on with a divisor of `per_device_train_batch_size` and the more `gradient_accumulation_steps`. The
    Trainer's own search would make the batch smaller, and with it the number of negatives.

    Args:
        trainer ([`DistillationTrainer`]): With `grad_cache`. Its arguments are changed.
        largest (`int`): The largest micro-batch, in rows per process.

    Raises:
        ValueError: DeepSpeed trains, which has been told the sizes already.
        MemoryError: Not even a single row fits.
    """
    args = trainer.args
    if trainer.is_deepspeed_enabled:
        raise ValueError(
            "`auto_find_batch_size=True` under DeepSpeed, whose engine is told the sizes before anything was tried. "
            "It works under DDP and FSDP. Set `per_device_train_batch_size` and `gradient_accumulation_steps` by hand."
        )
    whole = args.per_device_train_batch_size * args.gradient_accumulation_steps
    for size in [size for size in range(largest, 0, -1) if largest % size == 0]:
        if not any_rank(not _fits(trainer, size, whole // size), args.device):
            break
    else:
        raise MemoryError(
            "`auto_find_batch_size=True`, and the device's memory does not even hold a micro-batch of 1. It must hold "
            "student and teacher. Pass `--activation_checkpointing true`, a cached teacher, or a smaller model."
        )
    if size != args.per_device_train_batch_size and args.process_index == 0:
        logger.warning(
            "A batch of %d does not fit the memory: it is cut into micro-batches of %d, %d to a step. The loss is "
            "still that of the whole batch.",
            args.per_device_train_batch_size,
            size,
            whole // size,
        )
    args.per_device_train_batch_size, args.gradient_accumulation_steps = size, whole // size


@contextmanager
def explained_memory_error(trainer: Trainer) -> Iterator[None]:
    """Raise a `MemoryError` that says the fix where a batch that [`fit_batch`] has tried does not fit after all."""
    try:
        yield
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
        # The Trainer begins anew after a `RuntimeError`, and the weights are trained already.
        raise MemoryError(
            f"Out of memory at step {trainer.state.global_step}, although a micro-batch of "
            f"{trainer.args.per_device_train_batch_size} had fitted before the first step. No other process may use "
            "the device meanwhile. Halve `per_device_train_batch_size`, double `gradient_accumulation_steps`, and "
            "resume with `--resume_from_checkpoint auto`."
        ) from error


def _fits(trainer: Trainer, size: int, count: int) -> bool:
    """Return whether this process can train on `count` micro-batches of `size` rows; leave no trace in the model."""
    model, largest = trainer.model, trainer.image_sizes.largest_alone
    try:
        with as_single_process(), unchanged_buffers(model), torch.random.fork_rng(), largest():
            inputs = trainer.data_collator([_first_row(trainer.train_dataset)] * size)
            for share in model.losses.phases:  # other losses and teachers may be on later
                model.set_share(share)
                _try_step(trainer, inputs, count)
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
        fits = False
    else:
        fits = True
    model.zero_grad()
    clear_device_cache(garbage_collection=True)
    return fits


def _try_step(trainer: Trainer, inputs: dict[str, Any], count: int) -> None:
    model = trainer.model
    model.train()
    # AdamW will keep two numbers for each weight that it trains.
    trained = [p for p in model.parameters() if p.requires_grad]
    moments = [torch.zeros_like(p, dtype=torch.float32) for p in [*trained, *trained]]
    with trainer.accelerator.autocast():
        batches = [trainer.model_inputs(inputs) for _ in range(count)]
        outputs = cached_losses(model, batches) if count > 1 else [model(**batches[0])]
        next(iter(outputs))["loss"].backward()
    del moments


def _first_row(dataset: Any) -> Any:
    if hasattr(dataset, "sources"):
        return _first_row(dataset.sources[0].dataset)
    return dataset[0] if hasattr(dataset, "__len__") else next(iter(dataset))
