"""An upper bound on learned scales that holds under every engine, wherever its optimizer keeps the numbers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from transformers import TrainerCallback

BOUND = "upper_bound"


def bound_parameters(optimizer: torch.optim.Optimizer, bounds: Mapping[nn.Parameter, float]) -> None:
    """
    Hold parameters at or below a bound: after each step of `optimizer`, larger values go back to it.

    ZeRO steps on flat copies in float32 and writes them over the model's parameters. A bound on these alone would last
    until the next step. Copies keep to the groups of the optimizer, so each bound gets a group of its own.

    Args:
        optimizer (`torch.optim.Optimizer`): An optimizer that has not stepped yet. It is changed in place.
        bounds (`Mapping[nn.Parameter, float]`): The bound of each parameter.
    """
    found: dict[tuple[int, float], list[nn.Parameter]] = {}
    for index, group in enumerate(optimizer.param_groups):
        for parameter in group["params"]:
            if parameter in bounds:
                found.setdefault((index, bounds[parameter]), []).append(parameter)
        group["params"] = [parameter for parameter in group["params"] if parameter not in bounds]
    for (index, bound), parameters in found.items():
        options = {key: value for key, value in optimizer.param_groups[index].items() if key != "params"}
        optimizer.add_param_group({**options, "params": parameters, BOUND: bound})
    optimizer.register_step_post_hook(_bound)


@torch.no_grad()
def _bound(optimizer: torch.optim.Optimizer, args, kwargs) -> None:
    for group in optimizer.param_groups:
        if BOUND in group:
            for parameter in group["params"]:
                parameter.clamp_(max=group[BOUND])


class ClampScales(TrainerCallback):
    """Bound the learned scales right after every optimizer step, and show the student its own."""

    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        model.clamp_scales_()


__all__ = ["ClampScales", "bound_parameters"]
