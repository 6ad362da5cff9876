"""Launches that would quietly train something else than was asked for: one process alone, or several that never meet."""

from __future__ import annotations

import os

from accelerate.utils import DistributedType
from torch import nn
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled, unset_hf_deepspeed_config

ON_CPU = (
    "On CPUs start the processes with `torchrun --standalone --nproc_per_node 2 SCRIPT --use_cpu true`, or with "
    "`accelerate launch --config_file accelerate_configs/multi_cpu.yaml SCRIPT --use_cpu true`."
)
ENGINES = {
    DistributedType.DEEPSPEED: ("DeepSpeed", "deepspeed", "ACCELERATE_USE_DEEPSPEED"),
    DistributedType.FSDP: ("FSDP", "fsdp", "ACCELERATE_USE_FSDP"),
}


def check_launch(args) -> None:
    """
    Refuse a launch whose processes would not train together.

    Accelerate starts one process where `distributed_type: MULTI_CPU` asks for several, and several that never average their
    gradients where a CPU run of several is not told `use_cpu`; neither says so.

    Args:
        args ([`~transformers.TrainingArguments`]): Of this process.

    Raises:
        ValueError: If there is another number of processes than were asked for, or they would get unequal numbers of batches.
    """
    started = int(os.environ.get("WORLD_SIZE", 1))
    if started != args.world_size:
        raise ValueError(
            f"{started} processes were started (WORLD_SIZE), and this one trains with {args.world_size}: each would train "
            f"alone, in the same folder. All must train together. {ON_CPU}"
        )
    if "MASTER_ADDR" in os.environ and "RANK" not in os.environ and args.world_size == 1:
        raise ValueError(
            f"MASTER_ADDR={os.environ['MASTER_ADDR']} announces several processes, and RANK, which tells them apart, is "
            "not set: this is one process alone, whatever `num_processes` says. Unset MASTER_ADDR if that is meant. "
            f"{ON_CPU}"
        )
    if args.world_size > 1 and not args.accelerator_config.even_batches:
        raise ValueError(
            "`accelerator_config: {even_batches: false}` gives the processes unequal numbers of batches, and those with more would "
            "wait for the others for ever. It must be true. Leave it out, with `dataloader_drop_last` at its default, true."
        )


def build_models_whole() -> None:
    """
    Let every process have all weights of the models that are built from here on, also under ZeRO-3.

    There transformers would cut each new model into pieces as it is made, the teacher too, which has no engine to bring them
    together, and a student whose scales are still 0-dim, which DeepSpeed refuses. The engine cuts the student when the
    training begins.
    """
    if is_deepspeed_zero3_enabled():
        unset_hf_deepspeed_config()


def blocks(model: nn.Module) -> list[str]:
    """
    The classes of the blocks that FSDP cuts up one by one.

    accelerate would take all the names that the model's class knows, and stop at the first one that is not in this model.
    """
    present = {type(module).__name__ for module in model.modules()}
    return sorted(present.intersection(model._no_split_modules or ()))


class ChecksEngine:
    """Mixed into a [`~transformers.Trainer`]: refuses to run without the engine that was asked for."""

    def create_accelerator_and_postprocess(self) -> None:
        """
        As the parent's.

        Raises:
            ValueError: If DeepSpeed or FSDP was asked for and the processes would train with plain DDP.
        """
        super().create_accelerator_and_postprocess()
        build_models_whole()  # accelerate has just turned it on again
        for engine, (name, argument, variable) in ENGINES.items():
            asked = getattr(self.args, argument) or os.environ.get(variable, "false").lower() == "true"
            if asked and self.args.world_size > 1 and self.accelerator.distributed_type != engine:
                fix = (
                    "On CPUs unset ACCELERATE_USE_CPU and pass `--use_cpu true` to the script instead."
                    if engine == DistributedType.DEEPSPEED
                    else "It needs GPUs: on CPUs use accelerate_configs/multi_cpu.yaml."
                )
                raise ValueError(
                    f"{name} was asked for (`{argument}`, or {variable} from the launcher's config), and accelerate made "
                    f"{self.accelerator.distributed_type.value} of it, which trains without it. {fix}"
                )

    def _prepare_for_training(self, *args):
        plugin = getattr(self.accelerator.state, "fsdp_plugin", None)
        if plugin is not None and plugin.transformer_cls_names_to_wrap is None:
            plugin.transformer_cls_names_to_wrap = blocks(self.model)
        return super()._prepare_for_training(*args)


__all__ = ["ChecksEngine", "blocks", "build_models_whole", "check_launch"]
