"""Arguments of `transformers.Trainer` that a trainer here does not serve, and optimizers made outside of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from accelerate.optimizer import AcceleratedOptimizer
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from transformers import Trainer
from transformers.optimization import GreedyLR

PLATEAU = (ReduceLROnPlateau, GreedyLR)
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


def check_optimizer(trainer: Trainer) -> None:
    """
    Check an optimizer and a scheduler of learning rates that the trainer was given.

    Args:
        trainer ([`~transformers.Trainer`]): The trainer, before it trains. It may have trained before.

    Raises:
        ValueError: The optimizer lacks a trained parameter, or the scheduler belongs to another optimizer. Or the
            scheduler waits for a metric that no evaluation will give.
    """
    optimizer, scheduler, args = trainer.optimizer, trainer.lr_scheduler, trainer.args
    if isinstance(optimizer, AcceleratedOptimizer):
        return  # accelerate has prepared it, in the training before
    stepped = getattr(scheduler, "optimizer", None)
    if isinstance(stepped, torch.optim.Optimizer) and stepped is not optimizer:
        raise ValueError(
            "`optimizers` holds a scheduler whose optimizer is not that of this run. A scheduler comes with its "
            "optimizer. Set `lr_scheduler_type` and `lr_scheduler_kwargs` among the training arguments."
        )
    if isinstance(scheduler, PLATEAU) and (args.metric_for_best_model is None or args.eval_strategy == "no"):
        raise ValueError(
            f"`optimizers` holds a {type(scheduler).__name__}, and no evaluation gives it a metric. It needs "
            "`eval_strategy` and `metric_for_best_model`. Pass for example `eval_strategy='steps'` and "
            "`metric_for_best_model='loss'`."
        )
    if optimizer is not None and (lost := _without(optimizer, trainer.model)):
        more = f" and {len(lost) - SHOWN} more" if len(lost) > SHOWN else ""
        raise ValueError(
            f"`optimizers` holds an optimizer without {', '.join(lost[:SHOWN])}{more}, which would never move. It "
            "must hold every parameter of `trainer.model` that requires a gradient. Pass "
            "`optimizer_cls_and_kwargs=(torch.optim.AdamW, {'lr': 1e-3})`, and the trainer makes the optimizer."
        )


def _without(optimizer: torch.optim.Optimizer, model: nn.Module) -> list[str]:
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    return [
        name for name, parameter in model.named_parameters() if parameter.requires_grad and id(parameter) not in held
    ]
