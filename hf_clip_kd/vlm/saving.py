"""Saving and loading of a trained LLaVA; the folder also loads without this package."""

import os
import shutil
from pathlib import Path
from types import ModuleType

import torch
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    LlavaForConditionalGeneration,
    LlavaNextProcessor,
    LlavaProcessor,
    PreTrainedConfig,
)
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import PrefixChange
from transformers.dynamic_module_utils import get_relative_import_files

from ..models import ReducedTowerConfig, TimmVisionConfig, load_clip
from ..models.completeness import REPORTED, check_complete
from ..models.loader_faults import loader_faults, reason_of
from ..models.timm_clip import modeling_reduced_llava, modeling_reduced_timm_llava, modeling_timm_llava
from .tiles import LLAVAS, has_tiles


def save_llava(
    model: LlavaForConditionalGeneration, processor: LlavaProcessor, folder: str | os.PathLike, **save_arguments
) -> None:
    """
    Write model and processor into a folder.

    A tower of transformers needs nothing but transformers. The folder of a [`TimmVisionModel`] or a [`ReducedTower`]
    also holds the tower's code. It loads with this package, or with `trust_remote_code=True`, the first with timm.

    Args:
        model ([`~transformers.LlavaForConditionalGeneration`]), processor ([`~transformers.LlavaProcessor`]):
            Results of [`build_llava`].
        folder (`str` or `os.PathLike`): Output folder, created if missing.
        save_arguments: Passed to `model.save_pretrained`, such as `state_dict` or `max_shard_size`.
    """
    model.config.__dict__.pop("auto_map", None)
    module, prefix = code_of(model.config.vision_config)
    if module is not None:
        name, kind = Path(module.__file__).stem, f"{prefix}{'LlavaNext' if has_tiles(model) else 'Llava'}"
        # The Auto classes of transformers read this: file and class to load with `trust_remote_code=True`.
        model.config.auto_map = {
            "AutoConfig": f"{name}.{kind}Config",
            "AutoModelForImageTextToText": f"{name}.{kind}ForConditionalGeneration",
        }
        Path(folder).mkdir(parents=True, exist_ok=True)
        for path in {module.__file__, *get_relative_import_files(module.__file__)}:
            shutil.copyfile(path, Path(folder) / Path(path).name)
    model.save_pretrained(folder, **save_arguments)
    processor.save_pretrained(folder)


def code_of(config: PreTrainedConfig) -> tuple[ModuleType | None, str]:
    """Return the code that a tower's folder needs, `None` for a stock tower, and how its classes' names begin."""
    if config.model_type == ReducedTowerConfig.model_type:
        timm = config.tower_config.model_type == TimmVisionConfig.model_type
        return (modeling_reduced_timm_llava if timm else modeling_reduced_llava), "Reduced"
    if config.model_type == TimmVisionConfig.model_type:
        return modeling_timm_llava, "Timm"
    return None, ""


def keep_names(model: LlavaForConditionalGeneration) -> None:
    """
    Keep the names of a LLaVA's folder for a later save, also if the model's class changes.

    transformers maps the live modules' names to those in a folder by the class, and FSDP 2 replaces the class. A
    loaded model keeps this map by itself.
    """
    if getattr(model, "_weight_conversions", None) is None:
        found = get_model_conversion_mapping(model, add_legacy=False)
        # transformers leaves these out for a model that was not loaded.
        kept = [conversion for conversion in found if not isinstance(conversion, PrefixChange)]
        model._weight_conversions = kept or None


def load_llava(
    folder: str | os.PathLike, *, dtype: torch.dtype | str | None = None, trust_remote_code: bool = False
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """
    Load what [`save_llava`] wrote, or any other LLaVA.

    Args:
        folder (`str` or `os.PathLike`): A folder or Hub id.
        dtype (`torch.dtype` or `str`, *optional*): See `from_pretrained`. Default is that of the file.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Not needed for folders of [`save_llava`].

    Returns:
        `tuple`: The model in eval mode, and its processor.

    Raises:
        ValueError: There is no LLaVA, or some of its weights are missing.
    """
    name = os.fspath(folder)

    def message(error: Exception) -> str:
        return (
            f"{name!r} cannot be loaded as a LLaVA ({reason_of(error)}). Allowed are a folder written by save_llava "
            "and a Hub id of a model of type 'llava' or 'llava_next'. Give the folder in which config.json lies."
        )

    with loader_faults(message):
        config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
        if config.model_type not in LLAVAS:
            raise ValueError(f"it holds a model of type {config.model_type!r}")
        model, report = AutoModelForImageTextToText.from_pretrained(
            name, dtype=dtype or "auto", trust_remote_code=trust_remote_code, **REPORTED
        )
        processor_class = LlavaNextProcessor if has_tiles(model) else LlavaProcessor
        processor = processor_class.from_pretrained(name)
        # transformers prefers the torchvision backend for any saved processor; its pixels differ from those of
        # training.
        processor.image_processor = AutoImageProcessor.from_pretrained(name, backend="pil")
    check_complete(report, repr(name), model, "Allowed are complete weights. Save the model again with save_llava.")
    return model, processor


def load_folder(folder: str | os.PathLike) -> tuple:
    """
    Load the model and the processor in a folder, either a LLaVA or a dual encoder.

    Args:
        folder (`str` or `os.PathLike`): A local folder.

    Raises:
        ValueError: See [`load_llava`] and [`load_clip`].
    """
    vlm = AutoConfig.from_pretrained(folder).model_type in LLAVAS
    return load_llava(folder) if vlm else load_clip(folder)


__all__ = ["keep_names", "load_folder", "load_llava", "save_llava"]
