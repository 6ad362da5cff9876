"""Low-rank adapters in the language model of a LLaVA, and their merge into its weights."""

import os

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import BitsAndBytesConfig, LlavaForConditionalGeneration

QUANTIZATIONS = ("4bit", "8bit")
PROJECTOR = "multi_modal_projector"


def add_lora(model: LlavaForConditionalGeneration, lora: dict, tune_vision_tower: bool = False) -> PeftModel:
    """
    Wrap every linear layer of the language model except its head in adapters, and train the whole projector.

    Args:
        model ([`~transformers.LlavaForConditionalGeneration`]): The LLaVA; its own weights get frozen.
        lora (`dict`): Arguments of [`peft.LoraConfig`].
        tune_vision_tower (`bool`, *optional*, defaults to `False`): Train the whole vision tower, too.

    Raises:
        ValueError: `lora` holds a key that [`peft.LoraConfig`] does not have.
    """
    targets = [
        f"model.language_model.{name}"
        for name, module in model.model.language_model.named_modules()
        if isinstance(module, nn.Linear) or type(module).__name__ in ("Linear4bit", "Linear8bitLt")
    ]
    whole = [PROJECTOR, "vision_tower"] if tune_vision_tower else [PROJECTOR]
    try:
        config = LoraConfig(**{"target_modules": targets, "modules_to_save": whole, "task_type": "CAUSAL_LM"} | lora)
    except TypeError as error:
        raise ValueError(
            f"`lora={lora}`: {error}. It takes the arguments of `peft.LoraConfig`. Pass for example "
            '`--lora \'{"r": 128, "lora_alpha": 256, "lora_dropout": 0.05}\'`.'
        ) from error
    return get_peft_model(model, config)


def quantization(bits: str, dtype: torch.dtype = torch.bfloat16) -> BitsAndBytesConfig:
    """
    Return the arguments by which `from_pretrained` loads a language model for QLoRA.

    `"4bit"` is NF4 with double quantisation (https://huggingface.co/papers/2305.14314), `"8bit"` is LLM.int8
    (https://huggingface.co/papers/2208.07339).

    Raises:
        ValueError: `bits` has another value, or `bitsandbytes` is not installed.
    """
    if bits not in QUANTIZATIONS:
        raise ValueError(
            f"`quantization={bits!r}` is not known. It may be {' or '.join(QUANTIZATIONS)}. Pass `--quantization "
            "4bit`."
        )
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"`quantization={bits}` needs the package `bitsandbytes`, which cannot be imported ({error}). QLoRA is "
            "the only thing that does. Run `pip install bitsandbytes`, or leave the quantisation out."
        ) from error
    if bits == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def merge_adapter(plain: LlavaForConditionalGeneration, folder: str | os.PathLike) -> LlavaForConditionalGeneration:
    """
    Return `plain` with the adapters of a folder merged into its weights, and with the projector trained with them.

    A model trained by QLoRA must be built anew without quantisation. A merge into 4-bit weights would round the
    adapters away.
    """
    return PeftModel.from_pretrained(plain, folder).merge_and_unload()
