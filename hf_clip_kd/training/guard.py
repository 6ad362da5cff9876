"""What watches over the steps of a run: no weight ever learns from a number that is not finite."""

from __future__ import annotations

import logging
import math
import os
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from .distributed import gather_objects

logger = logging.getLogger(__name__)

FOLDER = "non_finite"
SAMPLE_INDEX = "sample_index"  # the rows' numbers in the data, where the collator gives them
SHOWN = 8  # names or numbers in a message


# No `repr` of its own: it would hide that of the arguments it is mixed into.
@dataclass(repr=False)
class GuardArguments:
    max_skipped_steps: int = field(
        default=0,
        metadata={
            "help": "So many steps with a loss or gradient that is not finite leave the weights as they are; the next one stops "
            "the run, with its batch in `output_dir/non_finite`. Gradients too large for fp16's loss scale do not count."
        },
    )


class SkippedSteps(TrainerCallback, ExportableState):
    """How many steps a run has skipped, in its checkpoints as well: a run that is resumed has no more of them than another."""

    def __init__(self):
        self.count = 0

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": {"count": self.count}}


class GuardsSteps:
    """
    Mixed into a [`~transformers.Trainer`] whose `compute_loss` returns what [`GuardsSteps.guarded`] makes of its loss.

    A step whose loss or gradient is not finite is skipped, or ends the run, on all processes alike: what one process
    finds in its loss reaches the others with the gradients, which they average anyway, so that finite steps cost no
    message. DeepSpeed steps inside of the backward pass: there nothing can be skipped. The run stops before a loss that is not
    finite is learned from, and after a gradient that is not, so that no checkpoint has it.
    """

    _steps_since_log = 0
    _skipped_since_log = 0

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._skipped = SkippedSteps()
        self.add_callback(self._skipped)

    def _prepare_for_training(self, *args, **kwargs):
        if self.is_deepspeed_enabled and self.args.max_skipped_steps:
            raise ValueError(
                f"`max_skipped_steps={self.args.max_skipped_steps}` under DeepSpeed, whose engine steps before anybody can "
                "look at the gradients. It may be 0, and a loss that is not finite stops the run. Leave it out, or launch with "
                "DDP or FSDP."
            )
        saved = self.state.stateful_callbacks.get("SkippedSteps", self._skipped.state())
        self._skipped.count = saved["attributes"]["count"]
        return super()._prepare_for_training(*args, **kwargs)

    def get_batch_samples(self, *args):
        samples, items = super().get_batch_samples(*args)
        self._window, self._found = samples, {}
        self._loss_before = self._tr_loss.clone()
        return samples, items

    def guarded(self, loss: Tensor, terms: dict[str, Tensor]) -> Tensor:
        """
        Args:
            loss (0-dim `Tensor`): Of this process's micro-batch.
            terms (`dict[str, Tensor]`): Its parts, by the names that a message shall use.

        Returns:
            `Tensor`: `loss`; one that is not finite with NaN in all its gradients.
        """
        if torch.isfinite(loss):
            return loss
        values = {name: part.item() for name, part in terms.items()}
        bad = {name: value for name, value in values.items() if not torch.isfinite(torch.tensor(value))}
        self._found = {"bad": bad or "the weighted sum overflowed", "all terms": values}
        if self.is_deepspeed_enabled:
            self._stop([self._report()])
        return loss * float("nan")

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch=None) -> Tensor:
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not self.accelerator.sync_gradients:
            return loss
        if self.is_deepspeed_enabled:
            self._check_engine(model)
            return loss
        self._steps_since_log += 1
        norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        if torch.isfinite(norm.full_tensor() if hasattr(norm, "full_tensor") else norm):
            return loss
        # The gradients are those of all processes together, so that all of them are here.
        return self._reject(model, loss)

    def _check_engine(self, model: nn.Module) -> None:
        """DeepSpeed is through with the step by now; in float32 it left such a one out, in bf16 it may have taken it."""
        norm = model.get_global_grad_norm()
        # With fp16 it is the loss scale that is too large, as it often is.
        if norm is not None and not math.isfinite(norm) and not self.args.fp16:
            self._stop(gather_objects(self._report()), model)

    def _reject(self, model: nn.Module, loss: Tensor) -> Tensor:
        reports = gather_objects(self._report())
        scaler = self.accelerator.scaler
        if scaler is not None and not any(report["found"] for report in reports):
            return loss  # no fault: the scaler skips the step and tries a smaller scale
        self._skipped.count, self._skipped_since_log = self._skipped.count + 1, self._skipped_since_log + 1
        if self._skipped.count > self.args.max_skipped_steps:
            self._stop(reports, model)
        logger.warning("%s\nThe step is skipped, %d of %d.", self._message(reports, model), *self._skips())
        if scaler is None:  # which must see what it shall skip
            model.zero_grad()  # an optimizer leaves alone what has no gradient
        self._tr_loss.copy_(self._loss_before)
        self._forget_step()
        return torch.zeros_like(loss)

    def _forget_step(self) -> None:
        """Take what this step has noted for the log back."""

    def _skips(self) -> tuple[int, int]:
        return self._skipped.count, self.args.max_skipped_steps

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Makes `loss` the mean of the steps that counted; adds `skipped_steps` if there are any, and fp16's `loss_scale`."""
        if "loss" in logs:
            if self._skipped_since_log:
                counted = self._steps_since_log - self._skipped_since_log
                logs["loss"] = logs["loss"] * self._steps_since_log / counted if counted else float("nan")
            self._steps_since_log = self._skipped_since_log = 0
            if self._skipped.count:
                logs["skipped_steps"] = self._skipped.count
            if self.accelerator.scaler is not None:
                logs["loss_scale"] = self.accelerator.scaler.get_scale()
        super().log(logs, start_time)

    # ---- What a message says ----

    def _report(self) -> dict[str, Any]:
        """What this process knows of its part of the step."""
        rows = [_rows(batch) for batch in self._window]
        suspects = [[row for row, finite in micro_batch if not finite] for micro_batch in rows]
        everything = [[row for row, _ in micro_batch] for micro_batch in rows]
        return {
            "rank": self.args.process_index,
            "found": self._found,
            "suspects": sum(suspects, []),
            "samples": sum(everything, []),
        }

    def _message(self, reports: list[dict[str, Any]], model: nn.Module | None = None) -> str:
        step = self.state.global_step
        guilty = [report for report in reports if report["found"]]
        if guilty:
            found = guilty[0]["found"]
            lines = [f"The loss is not finite at step {step}: {found['bad']}; all terms: {found['all terms']}."]
        else:
            bad = _bad_parameters(model)  # none are left where DeepSpeed has stepped
            lines = [f"The gradient is not finite at step {step}" + (f": of {_shown(bad)}." if bad else ".")]
        for report in guilty or reports:
            name = "samples with inputs that are not finite" if report["suspects"] else "samples"
            lines.append(f"Rank {report['rank']}: {name} {_shown(report['suspects'] or report['samples'])}.")
        return " ".join(lines)

    def _stop(self, reports: list[dict[str, Any]], model: nn.Module | None = None) -> None:
        folder = os.path.join(self.args.output_dir, FOLDER)
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, f"step_{self.state.global_step}_rank_{self.args.process_index}.safetensors")
        save_file(
            {
                f"{i}.{name}": value.cpu().contiguous()
                for i, batch in enumerate(self._window)
                for name, value in batch.items()
                if isinstance(value, Tensor)
            },
            path,
        )
        raise FloatingPointError(
            f"{self._message(reports, model)} Allowed are {self.args.max_skipped_steps} such steps; the batch is in {path}. Lower "
            "`learning_rate` or that term's weight, lengthen `warmup_steps`, train in bf16 rather than fp16, or skip some such "
            "steps with `max_skipped_steps`."
        )


def _rows(batch: dict[str, Any]) -> list[tuple[int, bool]]:
    """Each row's number in the data, or else in the micro-batch, and whether all its inputs are finite."""
    tensors = {name: x for name, x in batch.items() if isinstance(x, Tensor)}
    count = len(tensors["input_ids"])
    numbers = tensors[SAMPLE_INDEX].tolist() if SAMPLE_INDEX in tensors else range(count)
    finite = torch.ones(count, dtype=torch.bool)
    for x in tensors.values():
        if x.is_floating_point() and len(x) == count:
            finite &= x.flatten(1).isfinite().all(1).cpu()
    return list(zip(numbers, finite.tolist(), strict=False))


def _bad_parameters(model: nn.Module) -> list[str]:
    named = [(name, p.grad) for name, p in model.named_parameters() if p.grad is not None]
    return [name.removeprefix("module.") for name, grad in named if not torch.isfinite(grad).all()]


def _shown(items: list) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(map(str, items[:SHOWN])) + more
