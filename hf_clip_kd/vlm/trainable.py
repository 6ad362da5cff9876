"""Choice of the parts of a LLaVA that learn, and of their rates."""

import torch
from torch import nn
from transformers import LlavaForConditionalGeneration

from ..models.eval_mode import eval_mode
from .image_tokens import black_image
from .tiles import LLAVAS, has_tiles
from .training_args import LlavaTrainingArguments


def set_trainable(model: LlavaForConditionalGeneration, args: LlavaTrainingArguments) -> None:
    """Let the parts of `args.stage` learn and freeze the others, as LLaVA's two stages do."""
    # Adapters replace training of the language model's own weights.
    language_model = args.stage == "finetune" and args.lora is None
    learns = {
        model.model.multi_modal_projector: True,
        model.model.language_model: language_model,
        model.lm_head: language_model,
        model.model.vision_tower: args.tune_vision_tower,
    }
    if has_tiles(model):
        model.model.image_newline.requires_grad_(True)
    # The head comes last: with tied embeddings it is a part of the language model.
    for part, learned in learns.items():
        part.requires_grad_(learned)


def freeze_unread(model: nn.Module) -> None:
    """
    Freeze the weights of a learning vision tower that the read features do not use.

    The layers behind `vision_feature_layer` have no gradient. DDP would wait for it, and FSDP cannot resume an
    optimizer that never saw it.
    """
    llava = find_llava(model)
    tower = llava.model.vision_tower
    parameters = [parameter for parameter in tower.parameters() if parameter.requires_grad]
    layer, image = llava.config.vision_feature_layer, black_image(tower, llava.config.vision_config.image_size)
    with eval_mode(tower):
        states = tower(image, output_hidden_states=layer, return_dict=True).hidden_states
    read = sum(states[index].sum() for index in ([layer] if isinstance(layer, int) else layer))
    gradients = torch.autograd.grad(read, parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)


def frozen_parts(model: nn.Module) -> list[nn.Module]:
    """Return vision tower and language model if they do not learn at all: they belong in eval mode."""
    core = find_llava(model).model
    return [
        part
        for part in (core.vision_tower, core.language_model)
        if not any(parameter.requires_grad for parameter in part.parameters())
    ]


def parameter_groups(
    model: nn.Module, args: LlavaTrainingArguments, decaying: list[str], learning_rate: float
) -> list[dict]:
    """
    Group parameters for an optimizer: vision tower, projector and the rest, each with its rate, split by weight decay.

    Args:
        model (`nn.Module`): A LLaVA, or one wrapped by `peft`.
        args ([`LlavaTrainingArguments`]): The weight decay, and the rates of tower and projector.
        decaying (`list[str]`): Names of the parameters with weight decay.
        learning_rate (`float`): The rate of all without one of their own.
    """
    rates = {
        "vision_tower": args.vision_learning_rate,
        "multi_modal_projector": args.projector_learning_rate,
        "image_newline": args.projector_learning_rate,
    }
    groups: dict[tuple, list] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = next((rate for part, rate in rates.items() if f".{part}." in f".{name}."), None)
            key = (learning_rate if rate is None else rate, args.weight_decay if name in decaying else 0.0)
            groups.setdefault(key, []).append(parameter)
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]


def find_llava(model: nn.Module) -> LlavaForConditionalGeneration:
    """Return the LLaVA inside the wrapper of `peft`."""
    return next(module for module in model.modules() if isinstance(module, tuple(LLAVAS.values())))
