"""Arguments of `transformers.Trainer` that a trainer here does not serve, and optimizers made outside of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from accelerate.optimizer import AcceleratedOptimizer
from torch import nn

SHOWN = 4  # names in a message


def refuse_arguments(trainer: str, given: Mapping[str, Any], refused: Mapping[str, str]) -> None:
    """
    Refuse arguments of the stock Trainer that would have no effect.

    Args:
        trainer (`str`): The name of the class.
        given (`Mapping[str, Any]`): The arguments of the call.
        refused (`Mapping[str, str]`): Names of arguments, each with two sentences: the allowed way, and the fix.

    Raises:
        ValueError: A refused argument was given, and is not `None`.
    """
    for name, instead in refused.items():
        if given.get(name) is not None:
            raise ValueError(f"`{name}` is an argument of `Trainer` that {trainer} never reads. {instead}")


def check_optimizer(model: nn.Module, optimizer: Any, scheduler: Any) -> None:
    """
    Check an optimizer and a scheduler that were not made by the trainer.

    Args:
        model (`nn.Module`): All that is trained, heads and scales included.
        optimizer (`torch.optim.Optimizer`, *optional*): An optimizer that accelerate has prepared passes.
        scheduler (*optional*): A scheduler of learning rates.

    Raises:
        ValueError: The optimizer lacks a trained parameter, or the scheduler belongs to another optimizer.
    """
    if isinstance(optimizer, AcceleratedOptimizer):
        return
    fix = "Pass `optimizer_cls_and_kwargs=(torch.optim.AdamW, {'lr': 1e-3})`, and the trainer makes the optimizer."
    if optimizer is None:
        if isinstance(getattr(scheduler, "optimizer", None), torch.optim.Optimizer):
            raise ValueError(
                "`optimizers` holds a scheduler alone, and its optimizer is not that of this run. A scheduler comes "
                "with its optimizer. Set `lr_scheduler_type` and `lr_scheduler_kwargs` among the training arguments."
            )
        return
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    lost = [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in held]
    if lost:
        more = f" and {len(lost) - SHOWN} more" if len(lost) > SHOWN else ""
        raise ValueError(
            f"`optimizers` holds an optimizer without {', '.join(lost[:SHOWN])}{more}, which would never move. It "
            f"must hold every parameter of `trainer.model` that requires a gradient. {fix}"
        )
