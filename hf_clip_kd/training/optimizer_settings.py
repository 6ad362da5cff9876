"""Settings of a resumed optimizer: those of the arguments, and not those that its saved state holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer


class OptimizerSettings:
    """
    Keep an optimizer's settings over the loading of its state, which holds those of the run that saved it.

    The state of an optimizer has the rate, the weight decay and the other settings of each group, too. So a resumed
    run would go on with them, whatever its arguments say. An optimizer that a caller made keeps the settings in its
    state.

    Args:
        trainer ([`~transformers.Trainer`]): The trainer, already built, before it makes an optimizer.
    """

    def __init__(self, trainer: Trainer):
        self.trainer = trainer
        given = (trainer.optimizer, trainer.lr_scheduler, trainer.optimizer_cls_and_kwargs)
        self.are_of_arguments = given == (None, None, None)
        self.groups: list[dict[str, Any]] = []

    def note(self) -> None:
        """Note the settings of the new optimizer; called once its schedule is made, before any state is loaded."""
        groups = self.trainer.optimizer.param_groups
        self.groups = [{key: value for key, value in group.items() if key != "params"} for group in groups]

    @contextmanager
    def kept(self) -> Iterator[None]:
        """
        Load the state inside, and have the noted settings afterwards, with the rates of the schedule at its place.

        Raises:
            ValueError: The state is of an optimizer with other groups, or of another class.
        """
        try:
            yield
        except ValueError as error:
            raise ValueError(_other_optimizer(str(error))) from error
        if not self.are_of_arguments:
            return
        groups, schedule = self.trainer.optimizer.param_groups, self.trainer.lr_scheduler
        for group, settings in zip(groups, self.groups, strict=True):
            if missing := sorted(settings.keys() - group.keys()):
                raise ValueError(_other_optimizer(f"it has no {', '.join(missing)}"))
            group.update(settings | {"lr": group["lr"]})
        if isinstance(schedule, LambdaLR):  # the others change the rate that they find
            schedule.base_lrs = [group["initial_lr"] for group in groups]
            for group, base, rule in zip(groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
                group["lr"] = base * rule(schedule.last_epoch)
            schedule._last_lr = [group["lr"] for group in groups]  # the log reads it


def _other_optimizer(why: str) -> str:
    return (
        f"The checkpoint's optimizer is another than that of this run: {why}. Its state fits only the same optimizer, "
        "with the same groups of weights. Restore `optim`, rates and `weight_decay`, or start from the weights alone: "
        "`model_name_or_path`."
    )
