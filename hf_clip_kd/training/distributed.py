"""Talk to the other processes of a run. No other file does, so that every gathered value has its exact gradient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_single = False


@contextmanager
def as_single_process() -> Iterator[None]:
    """Treat this process as the only one, for work that the processes of a run do not share."""
    global _single
    _single = True
    try:
        yield
    finally:
        _single = False


def world_size() -> int:
    """Return the number of processes of the run; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() and not _single else 1


def rank() -> int:
    """Return the index of this process among [`world_size`]; 0 without a process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        length = torch.tensor([x.shape[0]], device=x.device)
        lengths = [torch.empty_like(length) for _ in range(world_size())]
        dist.all_gather(lengths, length)
        ctx.lengths = [int(n) for n in lengths]

        # Not every backend gathers unequal shapes, so all processes send as many rows as the longest one.
        padded = x.new_zeros(max(ctx.lengths), *x.shape[1:])
        padded[: x.shape[0]] = x
        parts = [torch.empty_like(padded) for _ in ctx.lengths]
        dist.all_gather(parts, padded)
        return torch.cat([part[:n] for part, n in zip(parts, ctx.lengths, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tensor:
        # Every process computes a loss from these rows, so their gradient is the sum over processes.
        # It is summed in fp32 at least: a sum of many halves would round at every step.
        total = grad.to(
            torch.promote_types(grad.dtype, torch.float32), memory_format=torch.contiguous_format, copy=True
        )
        dist.all_reduce(total)
        start = sum(ctx.lengths[: rank()])
        return total[start : start + ctx.lengths[rank()]].to(grad.dtype)


def gather(x: Tensor) -> Tensor:
    """
    Return the rows of all processes, in rank order, with gradient.

    The backward pass sums the gradients that all processes have for a row. Each process computes the loss of the whole
    batch. DDP, ZeRO and FSDP average the gradients of parameters over processes. The result is exactly the gradient of
    one process on the whole batch. The loss must not be multiplied by the number of processes.

    Args:
        x (`Tensor` of shape `(batch, ...)`):
            This process's rows. `batch` may differ between processes, the other axes may not. All processes must call
            this together, and either all or none of them with a tensor that requires grad.

    Returns:
        `Tensor` of shape `(sum of all batches, ...)`; `x` itself on one process.
    """
    return x if world_size() == 1 else _Gather.apply(x)


def gather_objects(value: Any) -> list[Any]:
    """Return a picklable value of each process, in rank order. All processes must call this together."""
    values = [value] * world_size()
    if world_size() > 1:
        dist.all_gather_object(values, value)
    return values


def any_rank(flag: bool, device: torch.device) -> bool:
    """Return whether `flag` is set on any process, the same on all of them. All processes must call this together."""
    return not min_over_ranks(int(not flag), device)


def min_over_ranks(number: int, device: torch.device) -> int:
    """Return the smallest `number` of all processes, the same on all. All processes must call this together."""
    if world_size() == 1:
        return number
    answer = torch.tensor(number, device=device)
    dist.all_reduce(answer, dist.ReduceOp.MIN)
    return int(answer)


def sum_over_ranks(values: Tensor) -> Tensor:
    """Return the sums of a tensor's numbers over all processes. All processes must call this together."""
    if world_size() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total


Store = dist.Store if dist.is_available() else Any


def open_store() -> Store:
    """Return a new connection to the store in which the processes of this run met. It holds texts by a key."""
    return dist.PrefixStore("hf_clip_kd/peers", dist.distributed_c10d._get_default_store().clone())


def talk_failed(error: Exception) -> bool:
    """Return whether processes could not talk to each other: a closed connection, or a timeout."""
    said = any(word in str(error) for word in ("gloo", "Application timeout caused pair closure"))  # also gloo's
    return isinstance(error, RuntimeError) and (isinstance(error, dist.DistError) or said)


def set_timeout(seconds: float) -> None:
    """Set the time that a process waits for the others. The Trainer does not pass `ddp_timeout` on for CPUs."""
    if world_size() > 1:
        # Older versions of torch have it under another name.
        set_it = dist.set_timeout if hasattr(dist, "set_timeout") else dist.distributed_c10d._set_pg_timeout
        set_it(timedelta(seconds=seconds), dist.group.WORLD)


def shard_(module: nn.Module) -> None:
    """
    Shard a frozen module over the processes, and gather it only while its `forward` runs.

    Args:
        module (`nn.Module`): The module, on its device. All processes must call it, and this function, together.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(next(module.parameters()).device.type, (world_size(),))
    # FSDP knows no parameters of 0 dimensions, so every process keeps those.
    whole = {parameter for parameter in module.parameters() if parameter.ndim == 0}
    fully_shard(module, mesh=mesh, reshard_after_forward=True, ignored_params=whole)
