"""A guard over the steps of a run: no weight ever learns from a number that is not finite."""

from __future__ import annotations

import logging
import math
import os
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import ExportableState

from .distributed import gather_objects
from .sharded import local_shards

logger = logging.getLogger(__name__)

FOLDER = "non_finite"
SAMPLE_INDEX = "sample_index"  # the rows' numbers in the data, where the collator gives them
SHOWN = 8  # names or numbers in a message


class SkippedSteps(TrainerCallback, ExportableState):
    """Count the skipped steps of a run; checkpoints hold the count, so a resumed run may skip no more."""

    def __init__(self):
        self.count = 0

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": {"count": self.count}}

    def on_train_begin(self, args, state, control, **kwargs):
        saved = state.stateful_callbacks.get("SkippedSteps", self.state())
        self.count = saved["attributes"]["count"]


class StepGuard:
    """
    Skip a step whose loss or gradient is not finite, or end the run, on all processes alike.

    A process makes the gradients of a bad loss NaN. They reach the others with the gradients, which all processes
    average anyway, so finite steps cost no message. This cannot be a callback: at `on_pre_optimizer_step` clipping has
    already spread a NaN over all gradients.

    DeepSpeed steps inside of the backward pass, where nothing can be skipped. The run stops before it learns from a
    bad loss, and after a bad gradient. So no checkpoint holds such weights.

    Args:
        trainer ([`~transformers.Trainer`]): The trainer, already built. It calls [`StepGuard.begin`] with each step's
            micro-batches, [`StepGuard.check_loss`] with each loss, and [`StepGuard.rejects`] after each backward pass.

    Raises:
        ValueError: `args.max_skipped_steps` is above 0 under DeepSpeed.
    """

    def __init__(self, trainer: Trainer):
        self.trainer, self.args = trainer, trainer.args
        self.skipped = SkippedSteps()
        self.micro_batches: list[dict[str, Any]] = []
        self._buffers: list[tuple[Tensor, Tensor]] = []
        self._losses: list[tuple[Tensor, dict[str, Tensor]]] = []
        self._steps_since_log = self._skipped_since_log = 0
        if trainer.is_deepspeed_enabled and self.args.max_skipped_steps:
            raise ValueError(
                f"`max_skipped_steps={self.args.max_skipped_steps}` under DeepSpeed, whose engine steps before "
                "anybody can look at the gradients. It may be 0, and a loss that is not finite stops the run. Leave "
                "it out, or launch with DDP or FSDP."
            )

    def count_with(self, callbacks: list[TrainerCallback]) -> None:
        """Count with the [`SkippedSteps`] among the callbacks, which a resumed run may have made anew."""
        self.skipped = next(callback for callback in callbacks if isinstance(callback, SkippedSteps))

    def begin(self, micro_batches: list[dict[str, Any]]) -> None:
        """Begin the step that these micro-batches make, and keep the buffers if it may be skipped."""
        self.micro_batches, self._losses = micro_batches, []
        if self.args.max_skipped_steps:
            self._buffers = [(buffer, buffer.clone()) for buffer in _saved_buffers(self.trainer.model)]

    def check_loss(self, loss: Tensor, terms: dict[str, Tensor]) -> Tensor:
        """
        Keep a loss for the report. Spoil its gradients if it is not finite, so that all processes see it.

        The host reads nothing here: the norm of the gradients is the only flag of a step.

        Args:
            loss (0-dim `Tensor`): The loss of this process's micro-batch.
            terms (`dict[str, Tensor]`): Its parts, by the names that a message shall use.

        Returns:
            `Tensor`: `loss`, with NaN in all its gradients if it is not finite.
        """
        self._losses.append((loss.detach(), {name: part.detach() for name, part in terms.items()}))
        if self.trainer.is_deepspeed_enabled and self._found():
            self._stop([self._report()])
        return loss * torch.where(loss.detach().isfinite(), 1.0, math.nan).to(loss.dtype)

    def rejects(self, model: nn.Module) -> bool:
        """
        Return whether the step must be skipped; called once all gradients of the step are there.

        Args:
            model (`nn.Module`): The wrapped model. The gradients of a rejected step are gone from it, and its buffers
                are those from before the step.

        Raises:
            FloatingPointError: The run has skipped as many steps as it may.
        """
        if self.trainer.is_deepspeed_enabled:
            self._check_engine(model)
            return False
        self._steps_since_log += 1
        norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        if torch.isfinite(norm.full_tensor() if hasattr(norm, "full_tensor") else norm):
            return False
        # The gradients are those of all processes together, so all of them come here.
        reports = gather_objects(self._report())
        scaler = self.trainer.accelerator.scaler
        if scaler is not None and not any(report["found"] for report in reports):
            return False  # no fault: the scaler skips the step and tries a smaller scale
        self.skipped.count, self._skipped_since_log = self.skipped.count + 1, self._skipped_since_log + 1
        if self.skipped.count > self.args.max_skipped_steps:
            self._stop(reports, model)
        count, allowed = self.skipped.count, self.args.max_skipped_steps
        logger.warning("%s\nThe step is skipped, %d of %d.", self._message(reports, model), count, allowed)
        if scaler is None:  # a scaler must see the gradients that it shall skip
            model.zero_grad()  # an optimizer leaves weights without gradient as they are
        for buffer, before in self._buffers:  # BatchNorm, for one, would remember the bad numbers for good
            buffer.copy_(before)
        return True

    def _check_engine(self, model: nn.Module) -> None:
        """Stop after a bad gradient under DeepSpeed, which may have taken the step in bf16."""
        norm = model.get_global_grad_norm()
        # The loss scale of fp16 is often too large, which is no fault.
        if norm is not None and not math.isfinite(norm) and not self.args.fp16:
            self._stop(gather_objects(self._report()), model)

    def read(self, logs: dict[str, float]) -> dict[str, float]:
        """
        Return what a log of the training needs: `loss`, `skipped_steps` and fp16's `loss_scale`.

        `loss` becomes the mean of the steps that counted, NaN if none did.
        """
        if "loss" not in logs:
            return {}
        values = {}
        if self._skipped_since_log:
            counted = self._steps_since_log - self._skipped_since_log
            values["loss"] = logs["loss"] * self._steps_since_log / counted if counted else float("nan")
        self._steps_since_log = self._skipped_since_log = 0
        if self.skipped.count:
            values["skipped_steps"] = self.skipped.count
        if self.trainer.accelerator.scaler is not None:
            values["loss_scale"] = self.trainer.accelerator.scaler.get_scale()
        return values

    # ---- Messages ----

    def _report(self) -> dict[str, Any]:
        """Return what this process knows of its part of the step."""
        numbers = [_numbers(batch) for batch in self.micro_batches]
        inputs = [_bad_rows(batch, rows) for batch, rows in zip(self.micro_batches, numbers, strict=True)]
        taught = [
            _bad_rows(self._taught(batch), rows) for batch, rows in zip(self.micro_batches, numbers, strict=True)
        ]
        return {
            "rank": self.args.process_index,
            "found": self._found(),
            "suspects": _merged(inputs),
            "taught": _merged(taught),
            "samples": sum(numbers, []),
            "weights": _bad_weights(self.trainer.model),
        }

    def _found(self) -> dict[str, Any]:
        """Return the terms of the first micro-batch whose loss is not finite, or nothing."""
        for loss, terms in self._losses:
            if not math.isfinite(loss.item()):
                values = {name: part.item() for name, part in terms.items()}
                bad = {name: value for name, value in values.items() if not math.isfinite(value)}
                return {"bad": bad or "the weighted sum overflowed", "all terms": values}
        return {}

    def _taught(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return what the teacher says of a micro-batch, once more, by name."""
        if getattr(self.trainer, "teacher", None) is None or not hasattr(self.trainer, "teacher_features"):
            return {}
        if self.args.teacher_sharded:
            return {}  # All processes would have to ask it together.
        features = self.trainer.teacher_features(self.trainer._prepare_inputs(batch))
        members = () if features is None else features.members or (features,)
        named = {f"{number}.{name}": x for number, own in enumerate(members) for name, x in own.tensors().items()}
        return named if len(members) > 1 else {name.partition(".")[2]: x for name, x in named.items()}

    def _message(self, reports: list[dict[str, Any]], model: nn.Module | None = None) -> str:
        step = self.trainer.state.global_step
        guilty = [report for report in reports if report["found"]]
        if guilty:
            found = guilty[0]["found"]
            lines = [f"The loss is not finite at step {step}: {found['bad']}. All terms: {found['all terms']}."]
        else:
            bad = _bad_parameters(model)  # none are left where DeepSpeed has stepped
            lines = [f"The gradient is not finite at step {step}" + (f": of {_shown(bad)}." if bad else ".")]
        for report in guilty or reports:
            suspects = sorted(set(sum(report["suspects"].values(), [])))
            name = "samples with inputs that are not finite" if suspects else "samples"
            lines.append(f"Rank {report['rank']}: {name} {_shown(suspects or report['samples'])}.")
            if suspects:
                lines.append(f"They have these inputs: {_shown([*report['suspects']])}.")
            elif report["taught"]:
                rows = sorted(set(sum(report["taught"].values(), [])))
                lines.append(f"The teacher's {_shown([*report['taught']])} are not finite, of samples {_shown(rows)}.")
            if report["weights"]:
                lines.append(f"Weights that are not finite: {_shown(report['weights'])}.")
        return " ".join(lines)

    def _stop(self, reports: list[dict[str, Any]], model: nn.Module | None = None) -> None:
        raise FloatingPointError(
            f"{self._message(reports, model)} Allowed are {self.args.max_skipped_steps} such steps. "
            f"{self._keep_batch()} Lower `learning_rate` or that term's weight, lengthen `warmup_steps`, train in "
            "bf16 rather than fp16, or skip some such steps with `max_skipped_steps`."
        )

    def _keep_batch(self) -> str:
        """Write the step's batch of this process, and return a sentence that says where."""
        name = f"step_{self.trainer.state.global_step}_rank_{self.args.process_index}.safetensors"
        path = os.path.join(self.args.output_dir, FOLDER, name)
        tensors = {
            f"{i}.{name}": value.cpu().contiguous()
            for i, batch in enumerate(self.micro_batches)
            for name, value in batch.items()
            if isinstance(value, Tensor)
        }
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            save_file(tensors, path)
        except (OSError, SafetensorError) as error:  # A full disk must not hide the reason of the end.
            return f"The batch could not be written ({error})."
        return f"The batch is in {path}."


def _saved_buffers(model: nn.Module) -> list[Tensor]:
    """Return the buffers that a checkpoint has. Others follow from the share of the steps, which a skip leaves."""
    return [
        buffer
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and name not in module._non_persistent_buffers_set
    ]


def _numbers(batch: dict[str, Any]) -> list[int]:
    """Return the numbers of the rows in the data, or else in the micro-batch."""
    return batch[SAMPLE_INDEX].tolist() if SAMPLE_INDEX in batch else [*range(len(batch["input_ids"]))]


def _bad_rows(tensors: dict[str, Any], numbers: list[int]) -> dict[str, list[int]]:
    """Return the rows with numbers that are not finite, by the name of the tensor."""
    found = {}
    for name, x in tensors.items():
        if isinstance(x, Tensor) and x.is_floating_point():
            if x.ndim and len(x) == len(numbers):
                finite = x.flatten(1).isfinite().all(1).tolist() if x.ndim > 1 else x.isfinite().tolist()
                bad = [number for number, good in zip(numbers, finite, strict=True) if not good]
            else:  # not of these rows, such as a scale
                bad = [] if x.isfinite().all() else numbers
            if bad:
                found[name] = bad
    return found


def _merged(parts: list[dict[str, list[int]]]) -> dict[str, list[int]]:
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: sum((part.get(name, []) for part in parts), []) for name in names}


def _bad_weights(model: nn.Module) -> list[str]:
    names, parameters = zip(*model.named_parameters(), strict=True)
    return [name for name, x in zip(names, local_shards(parameters), strict=True) if not torch.isfinite(x).all()]


def _bad_parameters(model: nn.Module) -> list[str]:
    named = [(name, p.grad) for name, p in model.named_parameters() if p.grad is not None]
    return [name.removeprefix("module.") for name, grad in named if not torch.isfinite(grad).all()]


def _shown(items: list) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(map(str, items[:SHOWN])) + more
