"""Weights of which every process holds a shard, as under ZeRO-3 and FSDP 2: read them, replace them, gather them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .distributed import rank


def is_sharded(module: nn.Module) -> bool:
    """Return whether ZeRO-3 or FSDP 2 has sharded the module's weights."""
    return any(hasattr(p, "ds_id") or hasattr(p, "full_tensor") for p in module.parameters())


def whole_values(parameters: Iterable[Tensor]) -> list[Tensor]:
    """
    Return copies of parameters in one piece, the same on every process.

    Args:
        parameters (`Iterable[Tensor]`): Plain parameters, or those of a model under ZeRO-3 or FSDP 2. There all
            processes must call this together.
    """
    parameters = list(parameters)
    cut = [parameter for parameter in parameters if hasattr(parameter, "ds_id")]
    with torch.no_grad(), _gathered(cut) if cut else contextlib.nullcontext():
        return [p.full_tensor().clone() if hasattr(p, "full_tensor") else p.detach().clone() for p in parameters]


def local_shards(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Return the part of each parameter on this process: its shard under ZeRO-3 or FSDP 2, else all of it."""
    return [_local_shard(parameter) for parameter in parameters]


@torch.no_grad()
def load_local_shards(module: nn.Module, parameters: Iterable[Tensor], values: Iterable[Tensor]) -> None:
    """
    Replace the shards that [`local_shards`] gives of parameters of `module`; all processes must call this together.

    It must be between two passes of the module. An engine may have left weights gathered after the last pass. They are
    sharded again, or they would hide the new ones.
    """
    for part in module.modules():
        if hasattr(part, "unshard"):
            part.reshard()
    for parameter, value in zip(parameters, values, strict=True):
        _local_shard(parameter).copy_(value)
        if hasattr(parameter, "ds_id"):
            parameter.partition()


def _local_shard(parameter: Tensor) -> Tensor:
    if hasattr(parameter, "ds_tensor"):
        # ZeRO-3 fills the last shards up with whatever is in the memory, which is no weight.
        piece = parameter.ds_tensor
        left = parameter.ds_numel - rank() * piece.numel()
        return piece[: max(0, left)].detach()
    return (parameter.to_local() if hasattr(parameter, "to_local") else parameter).detach()


def gather_full_model(module: nn.Module) -> nn.Module:
    """
    Return a model as it would be on one process, or the module itself where nothing is sharded.

    Args:
        module ([`~transformers.PreTrainedModel`]): A part of a model under ZeRO-3 or FSDP 2. All processes must call
            this together.
    """
    if not is_sharded(module):
        return module
    # The run's own random numbers must not depend on whether somebody looked at the model.
    with torch.random.fork_rng(devices=[]):
        copy = type(module)(module.config)
    names, parameters = zip(*module.named_parameters(), strict=True)
    state = dict(module.named_buffers()) | dict(zip(names, whole_values(parameters), strict=True))
    own = copy.state_dict()
    copy.load_state_dict({name: state[name] for name in own}, strict=True)
    return copy.to(device=next(iter(state.values())).device, dtype=parameters[0].dtype).train(module.training)


def _gathered(parameters: list[Tensor]):
    import deepspeed

    return deepspeed.zero.GatheredParameters(parameters)


__all__ = ["gather_full_model", "is_sharded", "load_local_shards", "local_shards", "whole_values"]
