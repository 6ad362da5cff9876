"""Gradient accumulation that equals the large batch: all micro-batches of a step train as one batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..losses.answers import Answers, Captions
from ..losses.features import CLIPFeatures
from ..models.precision import upcast

LOSSES = "losses."  # part of the names of buffers of the losses in a DistillationModel


def cached_losses(model: nn.Module, batches: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """
    Yield the loss of all micro-batches as of one batch, with its exact gradient, one micro-batch at a time.

    A loss that compares every sample with every other is not the mean of its values on micro-batches. GradCache
    ([Gao et al.](https://huggingface.co/papers/2101.06983)) still needs the activations of one micro-batch only:

    1. Encode all micro-batches without gradient and keep the features. Differentiate the loss of all of them by the
       features and by the loss's own heads and scales.
    2. Encode each micro-batch again, with gradient, and continue the chain rule from the gradients of its features.

    Both passes see the same random numbers, so dropout and patch masks agree. The first pass leaves no trace in the
    model's buffers. The result is that of one large forward pass. Only BatchNorm takes its statistics from one
    micro-batch, as in any accumulation.

    Args:
        model (`nn.Module`):
            A [`DistillationModel`], plain or wrapped by DDP, FSDP or ZeRO. Everything happens inside its `forward`.
        batches (`Iterable[dict]`):
            The arguments of `forward` for each micro-batch, the teacher's features included. All are read before the
            first pass, so the teacher runs once on each.

    Yields:
        The outputs of `forward` for each micro-batch. Every `loss` has the value for all micro-batches together, and
        the mean of these losses has its gradient. Call `backward` on each before taking the next.
    """
    batches = [dict(batch) for batch in batches]
    device = next(model.parameters()).device
    window, states = _Window(len(batches)), []
    # Losses run once in a step, in the first pass, so their buffers are right.
    with torch.no_grad(), unchanged_buffers(model, except_for=LOSSES):
        for batch in batches:
            states.append(random_state(device))
            model(**batch, objective=window.collect)
            batch.pop("teacher_features", None)
    for batch, state in zip(batches, states, strict=True):
        set_random_state(device, state)
        yield model(**batch, objective=window.replay)


class _Window:
    """
    The cache of `size` micro-batches. Its two methods take the place of `DistillationModel.objective`.

    They run inside the model's `forward`, where DDP, FSDP and ZeRO have the heads and scales at hand.
    """

    def __init__(self, size: int):
        self.size = size
        self.students: list[CLIPFeatures] = []
        self.teachers: list[CLIPFeatures | None] = []

    def collect(self, model, student: CLIPFeatures, teacher: CLIPFeatures | None) -> dict[str, Any]:
        """Keep the features in pass 1; with those of the last micro-batch, compute the loss and its gradient."""
        # An unscaled gradient of half-precision features would underflow.
        self.students.append(student.map(upcast))
        self.teachers.append(teacher)
        if len(self.students) == self.size:
            self._differentiate(model)
        return {}

    def _differentiate(self, model) -> None:
        sizes = [
            {name: len(value) for name, value in student.tensors().items() if value.ndim} for student in self.students
        ]
        features = concatenate(self.students).map(lambda x: x.detach().requires_grad_())
        teacher = None if self.teachers[0] is None else concatenate(self.teachers)
        del self.students, self.teachers
        leaves, parameters = features.tensors(), _parameters(model.losses)
        # The backward pass must not run under autocast either: the gradients of features and heads are no halves.
        with torch.enable_grad(), torch.autocast(features.image_embeds.device.type, enabled=False):
            self.outputs = model.objective(features, teacher)
            gradients = torch.autograd.grad(self.outputs["loss"], [*leaves.values(), *parameters], allow_unused=True)

        # The mean over micro-batches counts a row once, and a shared parameter `size` times.
        self.shared = gradients[len(leaves) :]
        self.gradients: list[dict[str, Tensor | None]] = [{} for _ in range(self.size)]
        for (name, leaf), gradient in zip(leaves.items(), gradients, strict=False):
            parts = [gradient] * self.size
            if gradient is not None and leaf.ndim > 0:
                parts = (self.size * gradient).split([size[name] for size in sizes])
            for micro_batch, part in zip(self.gradients, parts, strict=True):
                micro_batch[name] = part
        self.outputs["loss"] = self.outputs["loss"].detach()

    def replay(self, model, student: CLIPFeatures, teacher: None) -> dict[str, Any]:
        """Return, in pass 2, the outputs of the window; its loss has the gradient of the next micro-batch."""
        found, features = self.gradients.pop(0), student.tensors()
        inputs = [*features.values(), *_parameters(model.losses)]
        known = zip([*(found[name] for name in features), *self.shared], inputs, strict=True)
        # torch.compile traces no gradient that is None, so only inputs that the losses read are left.
        gradients, inputs = zip(*((gradient, x) for gradient, x in known if gradient is not None), strict=True)
        return self.outputs | {"loss": _Known.apply(self.outputs["loss"], gradients, *inputs)}


class _Known(torch.autograd.Function):
    """A value whose gradients are known already."""

    @staticmethod
    def forward(ctx, value: Tensor, gradients: tuple[Tensor, ...], *inputs: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        # The product is in fp32, with the factor of a GradScaler in it. Autograd then rounds to the type of the input.
        return None, None, *(grad * gradient for gradient in ctx.gradients)


def concatenate(parts: list[CLIPFeatures]) -> CLIPFeatures:
    """Return the features of several micro-batches as those of one batch, with the scales of the first."""
    rows = {
        name: torch.cat([part.tensors()[name] for part in parts])
        for name, value in parts[0].tensors().items()
        if value.ndim > 0
    }
    members = tuple(concatenate(list(member)) for member in zip(*(part.members for part in parts), strict=True))
    answers = tuple(Answers.concatenate(own) for own in zip(*(part.answers for part in parts), strict=True))
    captions = None if parts[0].captions is None else Captions.concatenate([part.captions for part in parts])
    return replace(parts[0].with_tensors(rows), members=members, answers=answers, captions=captions)


@contextmanager
def unchanged_buffers(model: nn.Module, *, except_for: str | None = None):
    """
    Undo what forward passes change in the model's buffers, such as BatchNorm's, but not in those of a name.

    Errors undo it, too: the trial of a batch ends in one where the memory is too small.
    """
    before = [
        (buffer, buffer.clone())
        for name, buffer in model.named_buffers()
        if except_for is None or except_for not in name
    ]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)


def random_state(device: torch.device) -> list[Tensor]:
    """Return the state of the random numbers on the CPU and on `device`."""
    return [generator.get_rng_state() for generator in _generators(device)]


def set_random_state(device: torch.device, state: list[Tensor]) -> None:
    """Restore a state that [`random_state`] returned."""
    for generator, value in zip(_generators(device), state, strict=True):
        generator.set_rng_state(value)


def _generators(device: torch.device) -> list:
    return [torch.random] if device.type == "cpu" else [torch.random, torch.get_device_module(device)]


def _parameters(losses: nn.Module) -> list[nn.Parameter]:
    # ZeRO-3 gathers a sharded parameter when it is read from its module, so each is read by name.
    return [losses.get_parameter(name) for name, p in losses.named_parameters() if p.requires_grad]
