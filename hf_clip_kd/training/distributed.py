"""Talk to the other processes of a run: the only file that does, so that every gathered value has its exact gradient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_single = False


@contextmanager
def as_single_process() -> Iterator[None]:
    """This process as if it were the only one, for what the processes of a run do not do together."""
    global _single
    _single = True
    try:
        yield
    finally:
        _single = False


def world_size() -> int:
    """Number of processes of the run; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() and not _single else 1


def rank() -> int:
    """Index of this process among [`world_size`]; 0 without a process group."""
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
    The rows of all processes, in rank order, with gradient.

    The backward pass sums the gradients that all processes have for a row. Where each process computes the loss of the
    whole batch and parameters' gradients are averaged over processes, as DDP, ZeRO and FSDP do, the result is exactly
    the gradient of one process on the whole batch; the loss must not be multiplied by the number of processes.

    Args:
        x (`Tensor` of shape `(batch, ...)`):
            This process's rows. `batch` may differ between processes, the other axes may not. All processes must call
            this together, and either all or none of them with a tensor that requires grad.

    Returns:
        `Tensor` of shape `(sum of all batches, ...)`; `x` itself on one process.
    """
    return x if world_size() == 1 else _Gather.apply(x)


def gather_objects(value: Any) -> list[Any]:
    """A picklable value of each process, in rank order, on all of them. All processes must call this together."""
    values = [value] * world_size()
    if world_size() > 1:
        dist.all_gather_object(values, value)
    return values


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether `flag` is set on any process, the same answer on all of them. All processes must call this together."""
    return not min_over_ranks(int(not flag), device)


def min_over_ranks(number: int, device: torch.device) -> int:
    """The smallest `number` of all processes, the same on all of them. All processes must call this together."""
    if world_size() == 1:
        return number
    answer = torch.tensor(number, device=device)
    dist.all_reduce(answer, dist.ReduceOp.MIN)
    return int(answer)


def shard_(module: nn.Module) -> None:
    """
    Cut a frozen module into pieces, one for each process, and bring them together only while its `forward` runs.

    Args:
        module (`nn.Module`): On the device that it will compute on; all processes must call it, and this, together.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(next(module.parameters()).device.type, (world_size(),))
    # FSDP knows no parameters of 0 dimensions; every process keeps those.
    whole = {parameter for parameter in module.parameters() if parameter.ndim == 0}
    fully_shard(module, mesh=mesh, reshard_after_forward=True, ignored_params=whole)
