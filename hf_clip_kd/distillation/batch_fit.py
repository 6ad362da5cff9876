"""A batch that the device cannot hold is cut into micro-batches that it can, and the objective stays that of the whole batch."""

from __future__ import annotations

import logging
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from ..training.distributed import any_rank, as_single_process
from .grad_cache import cached_losses, unchanged_buffers

logger = logging.getLogger(__name__)


class FitsBatches:
    """
    Mixed into a [`~transformers.Trainer`] with `grad_cache`: with `args.auto_find_batch_size` each process tries, before the
    first step, whether it can train on a whole batch; if one cannot, all go on with a divisor of `per_device_train_batch_size`
    and the more `gradient_accumulation_steps`. The Trainer's own search would make the batch, and with it the number of
    negatives, smaller.
    """

    def _inner_training_loop(self, batch_size: int | None = None, args=None, **kwargs):
        if not args.auto_find_batch_size:
            return super()._inner_training_loop(batch_size, args=args, **kwargs)
        if self.is_deepspeed_enabled:
            raise ValueError(
                "`auto_find_batch_size=True` under DeepSpeed, whose engine is told the sizes before anything was tried. It works under "
                "DDP and FSDP. Set `per_device_train_batch_size` and `gradient_accumulation_steps` by hand."
            )
        self._cut_batches(batch_size)
        try:
            return super()._inner_training_loop(args.per_device_train_batch_size, args=args, **kwargs)
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            # No `RuntimeError`, after which the Trainer would begin anew with trained weights.
            raise MemoryError(
                f"Out of memory at step {self.state.global_step}, although a micro-batch of {args.per_device_train_batch_size} had "
                "fitted before the first step. Other processes must leave the device alone. Halve "
                "`per_device_train_batch_size`, double `gradient_accumulation_steps`, and go on with "
                "`--resume_from_checkpoint auto`."
            ) from error

    def _cut_batches(self, largest: int) -> None:
        args = self.args
        whole = args.per_device_train_batch_size * args.gradient_accumulation_steps
        for size in [size for size in range(largest, 0, -1) if largest % size == 0]:
            if not any_rank(not self._fits(size, whole // size), args.device):
                break
        else:
            raise MemoryError(
                "`auto_find_batch_size=True`, and the device's memory does not even hold a micro-batch of 1. It must hold student and "
                "teacher. Pass `--activation_checkpointing true`, a cached teacher, or a smaller model."
            )
        if size != args.per_device_train_batch_size and args.process_index == 0:
            logger.warning(
                "A batch of %d does not fit the memory: it is cut into micro-batches of %d, %d to a step. The loss is still that "
                "of the whole batch.",
                args.per_device_train_batch_size,
                size,
                whole // size,
            )
        args.per_device_train_batch_size, args.gradient_accumulation_steps = size, whole // size

    def _fits(self, size: int, count: int) -> bool:
        """Whether this process can train on `count` micro-batches of `size` rows; leaves no trace in the model."""
        try:
            with as_single_process(), unchanged_buffers(self.model), torch.random.fork_rng():
                self._try_step(self.data_collator([_first_row(self.train_dataset)] * size), count)
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            fits = False
        else:
            fits = True
        self.model.zero_grad()
        clear_device_cache(garbage_collection=True)
        return fits

    def _try_step(self, inputs: dict[str, Any], count: int) -> None:
        self.model.train()
        # As much as AdamW will keep: two numbers for each that it trains.
        trained = [p for p in self.model.parameters() if p.requires_grad]
        moments = [torch.zeros_like(p, dtype=torch.float32) for p in [*trained, *trained]]
        with self.accelerator.autocast():
            batches = [self._model_inputs(inputs) for _ in range(count)]
            outputs = cached_losses(self.model, batches) if count > 1 else [self.model(**batches[0])]
            next(iter(outputs))["loss"].backward()
        del moments


def _first_row(dataset: Any) -> Any:
    if hasattr(dataset, "sources"):
        return _first_row(dataset.sources[0].dataset)
    return dataset[0] if hasattr(dataset, "__len__") else next(iter(dataset))
