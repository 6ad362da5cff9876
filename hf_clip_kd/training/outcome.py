"""The judge of a run. One that cannot learn, or has learned nothing, ends in an error and leaves no model."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback
from transformers.trainer_utils import has_length

from .distributed import any_rank, gather_objects

logger = logging.getLogger(__name__)

# A loss may be 0 once by chance, for instance where broken rows leave a batch of one.
FIRST_STEPS = 3
RATES = ("learning_rate", "vision_learning_rate", "projector_learning_rate")


class Outcome(TrainerCallback):
    """
    Judge before, during and after the training whether a run learns anything.

    The errors come before `save_model`, the evaluation and the push of a recipe. So no folder holds a model that looks
    like a result. A resumed run that has no step left is fine: its checkpoint has learned.

    Args:
        trainer ([`BaseTrainer`]): The trainer. It calls [`Outcome.check_settings`], [`Outcome.checked`],
            [`Outcome.begin`], [`Outcome.see`] and [`Outcome.check_end`], each at its time.
    """

    def __init__(self, trainer: Trainer):
        self.trainer, self.args = trainer, trainer.args
        self._learns = False
        self._loss = torch.zeros(())

    # ---- Start ----

    def check_settings(self) -> None:
        """
        Judge the settings and the size of the data.

        Raises:
            ValueError: The run shall take no step, there is no row, or all weights are frozen.
        """
        steps, epochs, rows = self.args.max_steps, self.args.num_train_epochs, self._rows()
        if steps == 0 or (steps < 0 and epochs <= 0):
            raise ValueError(
                f"`max_steps={steps}` and `num_train_epochs={epochs:g}` make 0 steps, so nothing would be learned. A "
                "run takes at least one step. Pass `--max_steps 100`, or `--num_train_epochs 1` without `max_steps`."
            )
        if rows == 0:
            raise ValueError(
                "The training data has 0 rows, so there is nothing to learn. At least one batch is needed. Check "
                "`split`, `max_train_samples` and any filter, or give other data."
            )
        rates = [getattr(self.args, name, None) for name in RATES]
        if not any(rates):
            logger.warning(
                "`learning_rate=0` moves no weight, so nothing is learned. Pass for example `--learning_rate 1e-3`."
            )
        if not any(parameter.requires_grad for parameter in self.trainer.model.parameters()):
            raise ValueError(
                "All weights of the model are frozen, so nothing would be learned. Some must require a gradient. Call "
                "`parameter.requires_grad_(True)` on those that shall learn."
            )
        if rows is not None:
            logger.info("The training data has %d rows, and a step takes %d of them.", rows, self._rows_per_step())

    def checked(self, dataloader: DataLoader) -> DataLoader:
        """
        Judge the batches of this process, and return them.

        Raises:
            ValueError: There are fewer rows than a batch of all processes.
        """
        rows, processes, size = self._rows(), self.args.world_size, self.args.train_batch_size
        if has_length(dataloader) and len(dataloader) == 0:
            raise ValueError(
                f"The training data has {rows} rows, fewer than the {size * processes} of one batch "
                f"(`per_device_train_batch_size={self.args.per_device_train_batch_size}`, {processes} process(es)). "
                "`dataloader_drop_last` drops a smaller batch, so there is no step. There must be one whole batch. "
                f"Pass `--per_device_train_batch_size {max(1, rows // processes)}`, or give more data."
            )
        alone = [name for name, needs in self.trainer.needs_others().items() if needs]
        # Several processes fill up the last batch.
        keeps_last = rows is not None and processes == 1 and not self.args.dataloader_drop_last
        if alone and keeps_last and rows % self._rows_per_loss() == 1:
            logger.warning(
                "The last batch of each epoch is one row of %d, and a batch of one has no negatives: %s learn nothing "
                "from it. Leave `dataloader_drop_last` at true, or change the batch size.",
                rows,
                alone,
            )
        return dataloader

    def _rows(self) -> int | None:
        dataset = self.trainer.train_dataset
        return len(dataset) if has_length(dataset) else None

    def _rows_per_step(self) -> int:
        return self.args.train_batch_size * self.args.world_size * self.args.gradient_accumulation_steps

    def _rows_per_loss(self) -> int:
        """Return the number of rows that a loss sees together: with `grad_cache` all of a step."""
        apart = 1 if getattr(self.args, "grad_cache", False) else self.args.gradient_accumulation_steps
        return self._rows_per_step() // apart

    # ---- Steps ----

    def on_train_begin(self, args, state, control, **kwargs):
        self._learns, self._loss = state.global_step > 0, torch.zeros((), device=args.device)

    def begin(self, samples: list[dict[str, Any]]) -> None:
        """
        Judge the micro-batches of the first step.

        The setting alone does not tell: a row of the data may be a whole batch.

        Raises:
            ValueError: Each loss learns from other rows, and there are none.
        """
        if self._learns or not samples or self._rows_per_loss() > 1 or len(samples[0]["input_ids"]) > 1:
            return
        needs = self.trainer.needs_others()
        alone = [name for name, needed in needs.items() if needed]
        if not alone:
            return
        problem = (
            f"`per_device_train_batch_size={self.args.per_device_train_batch_size}` on one process is a batch of one, "
            f"and a batch of one has no negatives: {alone} compare each row with others."
        )
        fix = (
            "Give at least 2 rows, better 256: `--per_device_train_batch_size 256`, or "
            "`--gradient_accumulation_steps` with `grad_cache`."
        )
        if len(alone) == len(needs):
            raise ValueError(f"{problem} Nothing would be learned. {fix}")
        logger.warning("%s Only %s learn. %s", problem, [name for name in needs if name not in alone], fix)

    def see(self, loss: Tensor) -> None:
        """Note the loss of a micro-batch, a 0-dim `Tensor`."""
        if not self._learns:
            self._loss = self._loss + loss.detach().abs()

    def on_step_end(self, args, state, control, **kwargs):
        # One question to the device in a healthy run: its first loss is not 0.
        if self._learns:
            return
        self._learns = any_rank(bool(self._loss != 0), args.device)
        if not self._learns and (state.global_step >= min(FIRST_STEPS, state.max_steps) or control.should_save):
            self._refuse_zero(state.global_step)

    def on_epoch_end(self, args, state, control, **kwargs):
        if not self._learns and state.global_step and control.should_save:
            self._refuse_zero(state.global_step)

    def _refuse_zero(self, steps: int) -> None:
        _agree(self._why_unusable())  # rows without a picture are the likely reason
        raise ValueError(
            f"The loss was exactly 0 in all {steps} first step(s), so nothing is learned. It must be above 0 at the "
            "start of a run. Use larger batches, a student that is no copy of its teacher, or other `losses`."
        )

    # ---- End ----

    def check_end(self) -> None:
        """
        Judge the whole run, on all processes alike.

        Raises:
            ValueError: It took no step, skipped all of its steps, or had too few usable rows.
        """
        _agree(self._why_nothing())

    def _why_nothing(self) -> str | None:
        steps, skipped = self.trainer.state.global_step, self.trainer.guard.skipped.count
        if steps == 0:
            return (
                f"The run ended after 0 of {self.trainer.state.max_steps} steps: its data gave no batch. One batch of "
                f"{self.args.train_batch_size * self.args.world_size} rows must come. Give more data, or pass a "
                "smaller `per_device_train_batch_size`."
            )
        if skipped >= steps:
            return (
                f"All {steps} steps were skipped, since no loss or gradient was finite, so nothing was learned. Some "
                "must be. Lower `learning_rate`, train in bf16 or float32, or look at the samples named in the log."
            )
        return self._why_unusable()

    def _why_unusable(self) -> str | None:
        try:
            # Collators of others count nothing.
            getattr(self.trainer.data_collator, "check_rows", lambda: None)()
        except ValueError as error:
            return str(error)
        return None


def _agree(found: str | None) -> None:
    """Raise the first error that any process has found, on all of them."""
    for error in filter(None, gather_objects(found)):
        raise ValueError(error)
