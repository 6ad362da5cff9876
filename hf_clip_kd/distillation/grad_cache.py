"""Gradient accumulation that is the large batch: all micro-batches of a step train as one, in the memory of one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..losses.features import CLIPFeatures

LOSSES = "losses."  # in the names of what belongs to the losses of a DistillationModel


def cached_losses(model: nn.Module, batches: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """
    The loss of all micro-batches as of one batch, and its exact gradient, one micro-batch at a time.

    A loss that compares every sample with every other is not the mean of its values on micro-batches. GradCache
    ([Gao et al.](https://huggingface.co/papers/2101.06983)) still needs the activations of one micro-batch only:

    1. Encode all micro-batches without gradient, keep the features, and differentiate the loss of all of them with
       respect to the features and to the loss's own heads and scales.
    2. Encode each micro-batch again, with gradient, and let the chain rule go on from what was found for its features.

    Both passes see the same random numbers, so dropout and patch masks agree, and the first leaves no trace in the
    model's buffers. BatchNorm takes its statistics from one micro-batch, as in any accumulation: with it the result is
    not that of one large forward pass, without it it is.

    Args:
        model (`nn.Module`):
            A [`DistillationModel`], as it is or wrapped by DDP, FSDP or ZeRO; everything happens inside its `forward`.
        batches (`Iterable[dict]`):
            What `forward` takes for each micro-batch, the teacher's features included. All are read before the first
            pass, so the teacher runs once on each.

    Yields:
        For each micro-batch what `forward` returns. Every `loss` has the value for all micro-batches together, and the
        mean of these losses has its gradient. Call `backward` on one before taking the next.
    """
    batches = [dict(batch) for batch in batches]
    device = next(model.parameters()).device
    window, states = _Window(len(batches)), []
    with torch.no_grad(), unchanged_buffers(model):
        for batch in batches:
            states.append(random_state(device))
            model(**batch, objective=window.collect)
            batch.pop("teacher_features", None)
    for batch, state in zip(batches, states, strict=True):
        set_random_state(device, state)
        yield model(**batch, objective=window.replay)


class _Window:
    """
    What is cached of `size` micro-batches. Its two methods take the place of `DistillationModel.objective`.

    They run inside the model's `forward`, where DDP, FSDP and ZeRO have the heads and scales at hand.
    """

    def __init__(self, size: int):
        self.size = size
        self.students: list[CLIPFeatures] = []
        self.teachers: list[CLIPFeatures | None] = []

    def collect(self, model, student: CLIPFeatures, teacher: CLIPFeatures | None) -> tuple[None, dict]:
        """Pass 1: keep the features; with those of the last micro-batch, compute the loss and its gradient."""
        self.students.append(student.map(_full))
        self.teachers.append(teacher)
        if len(self.students) == self.size:
            self._differentiate(model)
        return None, {}

    def _differentiate(self, model) -> None:
        sizes = [
            {name: len(value) for name, value in student.tensors().items() if value.ndim} for student in self.students
        ]
        features = concatenate(self.students).map(lambda x: x.detach().requires_grad_())
        teacher = None if self.teachers[0] is None else concatenate(self.teachers)
        del self.students, self.teachers
        leaves, parameters = features.tensors(), _parameters(model.losses)
        # Also the backward pass must not run under autocast: the gradients of features and heads are no halves.
        with torch.enable_grad(), torch.autocast(features.image_embeds.device.type, enabled=False):
            loss, self.parts = model.objective(features, teacher)
            gradients = torch.autograd.grad(loss, [*leaves.values(), *parameters], allow_unused=True)

        # The mean over micro-batches counts a row once and what all of them share `size` times.
        self.shared = gradients[len(leaves) :]
        self.gradients: list[dict[str, Tensor | None]] = [{} for _ in range(self.size)]
        for (name, leaf), gradient in zip(leaves.items(), gradients, strict=False):
            parts = [gradient] * self.size
            if gradient is not None and leaf.ndim > 0:
                parts = (self.size * gradient).split([size[name] for size in sizes])
            for micro_batch, part in zip(self.gradients, parts, strict=True):
                micro_batch[name] = part
        self.loss = loss.detach()

    def replay(self, model, student: CLIPFeatures, teacher: None) -> tuple[Tensor, dict[str, Tensor]]:
        """Pass 2: the loss of the window with the gradient of its next micro-batch."""
        found, features = self.gradients.pop(0), student.tensors()
        inputs = [*features.values(), *_parameters(model.losses)]
        known = zip([*(found[name] for name in features), *self.shared], inputs, strict=True)
        # Only what the losses read; torch.compile traces no gradient that is None.
        gradients, inputs = zip(*((gradient, x) for gradient, x in known if gradient is not None), strict=True)
        return _Known.apply(self.loss, gradients, *inputs), self.parts


class _Known(torch.autograd.Function):
    """A value whose gradients are known already."""

    @staticmethod
    def forward(ctx, value: Tensor, gradients: tuple[Tensor, ...], *inputs: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        # In fp32 with the factor of a GradScaler already in it; autograd then rounds to the type of the input.
        return None, None, *(grad * gradient for gradient in ctx.gradients)


def concatenate(parts: list[CLIPFeatures]) -> CLIPFeatures:
    """The features of several micro-batches as those of one; what has no rows, such as scales, is the first one's."""
    rows = {
        name: torch.cat([part.tensors()[name] for part in parts])
        for name, value in parts[0].tensors().items()
        if value.ndim > 0
    }
    members = tuple(concatenate(list(member)) for member in zip(*(part.members for part in parts), strict=True))
    return replace(parts[0], **rows, members=members)


@contextmanager
def unchanged_buffers(model: nn.Module):
    """Undo what forward passes do to the model's buffers, such as BatchNorm's running statistics, and not to the losses'."""
    # Losses run once in a step, in the first pass, so what they keep of it is right.
    before = [(buffer, buffer.clone()) for name, buffer in model.named_buffers() if LOSSES not in name]
    yield
    for buffer, value in before:
        buffer.copy_(value)


def random_state(device: torch.device) -> list[Tensor]:
    """The state of the random numbers on the CPU and on `device`."""
    return [generator.get_rng_state() for generator in _generators(device)]


def set_random_state(device: torch.device, state: list[Tensor]) -> None:
    """Go back to what [`random_state`] returned."""
    for generator, value in zip(_generators(device), state, strict=True):
        generator.set_rng_state(value)


def _generators(device: torch.device) -> list:
    return [torch.random] if device.type == "cpu" else [torch.random, torch.get_device_module(device)]


def _full(x: Tensor) -> Tensor:
    # An unscaled gradient of half-precision features would underflow.
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _parameters(losses: nn.Module) -> list[nn.Parameter]:
    # By name, because ZeRO-3 brings a sharded parameter together when it is read from its module.
    return [losses.get_parameter(name) for name, p in losses.named_parameters() if p.requires_grad]
