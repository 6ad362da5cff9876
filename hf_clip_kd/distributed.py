"""Talk to the other processes of a run: the only file that does, so that every gathered value has its exact gradient."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable


def world_size() -> int:
    """Number of processes of the run; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


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
