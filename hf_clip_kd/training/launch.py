"""Checks of a launch, so that no run quietly trains something else than was asked for."""

from __future__ import annotations

import logging
import os

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn
from transformers import TrainingArguments
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled, unset_hf_deepspeed_config

logger = logging.getLogger(__name__)

# Instructions of CPUs that multiply numbers of bfloat16, by their names in torch: Intel and AMD, then ARM.
BF16_INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")
ON_CPU = (
    "On CPUs start the processes with `torchrun --standalone --nproc_per_node 2 SCRIPT --use_cpu true`, or with "
    "`accelerate launch --config_file accelerate_configs/multi_cpu.yaml SCRIPT --use_cpu true`."
)
ENGINES = {
    DistributedType.DEEPSPEED: ("DeepSpeed", "deepspeed", "ACCELERATE_USE_DEEPSPEED"),
    DistributedType.FSDP: ("FSDP", "fsdp", "ACCELERATE_USE_FSDP"),
}


def check_launch(args: TrainingArguments) -> None:
    """
    Refuse a launch whose processes would not train together.

    Accelerate starts one process where `distributed_type: MULTI_CPU` asks for several. It starts several that never
    average their gradients where a CPU run lacks `use_cpu`. The Trainer cuts the batch of one process among all GPUs
    that it sees. Each pair would meet a part of the others. Neither reports it.

    Args:
        args ([`~transformers.TrainingArguments`]): The arguments of this process.

    Raises:
        ValueError: The number of processes is not the one asked for. Or processes would share their batches, or one
            would use several GPUs.
    """
    started = int(os.environ.get("WORLD_SIZE", 1))
    if started != args.world_size:
        raise ValueError(
            f"{started} processes were started (WORLD_SIZE), and this one trains with {args.world_size}: each would "
            f"train alone, in the same folder. All must train together. {ON_CPU}"
        )
    if "MASTER_ADDR" in os.environ and "RANK" not in os.environ and args.world_size == 1:
        raise ValueError(
            f"MASTER_ADDR={os.environ['MASTER_ADDR']} announces several processes, and RANK, which tells them apart, "
            "is not set. This is one process alone, whatever `num_processes` says. Unset MASTER_ADDR if that is "
            f"meant. {ON_CPU}"
        )
    if args.n_gpu > 1:
        raise ValueError(
            f"This one process sees {args.n_gpu} GPUs. The Trainer would cut each batch among them, and no loss would "
            "compare pairs of two GPUs. Each GPU needs a process of its own. Start them with `accelerate launch "
            "--config_file accelerate_configs/multi_gpu.yaml SCRIPT`, or show this one a single GPU with "
            "`CUDA_VISIBLE_DEVICES=0`."
        )
    if os.environ.get("ACCELERATE_USE_PARALLELISM_CONFIG", "false").lower() == "true":
        raise ValueError(
            "ACCELERATE_USE_PARALLELISM_CONFIG=true: processes would share their pairs, which the losses would count "
            "several times. Each process trains on pairs of its own. Take a file of accelerate_configs/."
        )


def check_precision(args: TrainingArguments) -> None:
    """
    Refuse fp16 on a CPU. Warn of bf16 on a CPU without instructions for it.

    Args:
        args ([`~transformers.TrainingArguments`]): The arguments of this process.

    Raises:
        ValueError: The flag or the launcher asks for fp16, and the device is a CPU.
    """
    if args.mixed_precision == "fp16" and args.device.type == "cpu":
        asked = "`fp16=True`" if args.fp16 else "`mixed_precision: fp16` from the launcher"
        where, device = ("`use_cpu=True`", "") if args.use_cpu else ("no GPU", " --use_cpu true")
        raise ValueError(
            f"{asked} with {where}: transformers would train in float32 without a word. CPUs have `bf16`. Pass "
            f"`--bf16 true{device}` instead."
        )
    if args.mixed_precision == "bf16" and args.device.type == "cpu" and args.process_index == 0:
        found = torch.cpu.get_capabilities()
        if not any(found.get(name) for name in BF16_INSTRUCTIONS):
            logger.warning(
                "`bf16=True` on a CPU without instructions for it (%s): torch computes it through float32, and the "
                "run is slower than in float32. The numbers are those of bf16. Pass `--bf16 false` for float32.",
                ", ".join(BF16_INSTRUCTIONS),
            )


def build_models_whole() -> None:
    """
    Give every process all weights of the models that are built from here on, also under ZeRO-3.

    Under ZeRO-3 transformers would shard each new model while building it. A teacher has no engine that gathers its
    shards. A new student still has 0-dim scales, which DeepSpeed refuses. The engine shards the student when the
    training begins.
    """
    if is_deepspeed_zero3_enabled():
        unset_hf_deepspeed_config()


def blocks(model: nn.Module) -> list[str]:
    """
    Return the classes of the blocks that FSDP shards one by one.

    accelerate would take all names that the model's class knows. It stops at a name that is not in this model.
    """
    present = {type(module).__name__ for module in model.modules()}
    return sorted(present.intersection(model._no_split_modules or ()))


def name_blocks(accelerator: Accelerator, model: nn.Module) -> None:
    """Tell FSDP the blocks of this model, unless its configuration names them."""
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    if plugin is not None and plugin.transformer_cls_names_to_wrap is None:
        plugin.transformer_cls_names_to_wrap = blocks(model)


def check_engine(args: TrainingArguments, accelerator: Accelerator) -> None:
    """
    Refuse a run without the engine that was asked for.

    Args:
        args ([`~transformers.TrainingArguments`]): The arguments of this process.
        accelerator ([`~accelerate.Accelerator`]): The accelerator that the Trainer made from them.

    Raises:
        ValueError: DeepSpeed or FSDP was asked for, and the processes would train with plain DDP.
    """
    for engine, (name, argument, variable) in ENGINES.items():
        asked = getattr(args, argument) or os.environ.get(variable, "false").lower() == "true"
        if asked and args.world_size > 1 and accelerator.distributed_type != engine:
            fix = (
                "On CPUs unset ACCELERATE_USE_CPU and pass `--use_cpu true` to the script instead."
                if engine == DistributedType.DEEPSPEED
                else "It needs GPUs. On CPUs use accelerate_configs/multi_cpu.yaml."
            )
            raise ValueError(
                f"{name} was asked for (`{argument}`, or {variable} from the launcher's config), and accelerate made "
                f"{accelerator.distributed_type.value} of it, which trains without it. {fix}"
            )


__all__ = ["blocks", "build_models_whole", "check_engine", "check_launch", "check_precision", "name_blocks"]
