"""[`load_clip`]: one call for every dual encoder, be it a preset, a JSON, a folder or a Hub id."""

import difflib
import os
from pathlib import Path

from transformers import (
    MODEL_MAPPING,
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForZeroShotImageClassification,
    AutoProcessor,
    PreTrainedConfig,
    PreTrainedModel,
    ProcessorMixin,
)

from .completeness import REPORTED, check_complete
from .loader_faults import loader_faults, reason_of
from .naflex import read_packed
from .names import parse_name
from .presets import build_preset, list_models, preset_folder
from .processing import fit_processor
from .zip_bombs import refuse_zip_bomb

# Arguments of `from_pretrained` that say where the files are. They concern the processor as well.
HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")
REQUIRED_METHODS = ("get_image_features", "get_text_features")


def load_clip(
    name_or_path: str | os.PathLike, *, trust_remote_code: bool = False, **from_pretrained_kwargs
) -> tuple[PreTrainedModel, ProcessorMixin]:
    """
    Load a dual encoder and its processor, or build a fresh student.

    Args:
        name_or_path (`str` or `os.PathLike`):
            One of [`list_models`] or the path of such a JSON, for random weights (`torch.manual_seed` decides which).
            The folder of a saved model, or a Hub id. A preset's name comes before a folder of the same name.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Allow code that lies in the folder or Hub repository to run.
        from_pretrained_kwargs:
            Passed to `from_pretrained`, such as `dtype`, `attn_implementation`, `revision` or `device_map`; a preset
            takes `dtype` and `attn_implementation`. With `ignore_mismatched_sizes=True` tensors whose shape differs
            from the configuration's start anew, as in a fresh student.

    Returns:
        `tuple`: the model in eval mode when loaded and in train mode when fresh, as in transformers, and the
        processor.

    Raises:
        ValueError: The name is unknown, or the folder holds no dual encoder. Weights are missing or have another
            shape. The Hub could not be reached, or a package is missing.

    Example:

    ```python
    >>> model, processor = load_clip("ViT-T-16")
    ```
    """
    name = os.fspath(name_or_path)
    try:
        return load_any(name, trust_remote_code, from_pretrained_kwargs)
    except ImportError as error:
        raise ValueError(
            f"{name!r} cannot be loaded as asked ({reason_of(error)}). Allowed is what the installed packages can do. "
            "Install that package, or leave `attn_implementation` out."
        ) from error


def load_any(name: str, trust_remote_code: bool, kwargs: dict) -> tuple[PreTrainedModel, ProcessorMixin]:
    kind = parse_name(name).kind
    if kind == "preset":
        return build_preset(preset_folder() / f"{name}.json", **kwargs)
    if kind == "json" and os.path.isfile(name):
        return build_preset(Path(name), **kwargs)
    if kind == "folder":
        check_folder(name, kwargs.get("subfolder", ""))
    elif kind != "hub":
        raise ValueError(unknown_name(name))
    return load_pretrained(name, trust_remote_code, kwargs)


def load_pretrained(name: str, trust_remote_code: bool, kwargs: dict) -> tuple[PreTrainedModel, ProcessorMixin]:
    where = {key: kwargs[key] for key in HUB_ARGUMENTS if key in kwargs} | {"trust_remote_code": trust_remote_code}
    with loader_faults(lambda error: cannot_load(name, error)):
        config = AutoConfig.from_pretrained(name, **where)

    model_class = auto_class(config)
    if type(config) in MODEL_MAPPING:
        # The check comes before the weights are read. Remote code is in no table, and is checked once it is loaded.
        check_dual_encoder(MODEL_MAPPING[type(config)], name, config)
    with loader_faults(lambda error: cannot_load(name, error)):
        model, report = model_class.from_pretrained(name, trust_remote_code=trust_remote_code, **kwargs | REPORTED)
    check_dual_encoder(type(model), name, config)
    check_complete(
        report,
        repr(name),
        model,
        "Allowed are complete weights of a dual encoder. Save the whole model with model.save_pretrained and load "
        "that folder.",
        allow_other_shapes=kwargs.get("ignore_mismatched_sizes", False),
    )
    return read_packed(model), fit_processor(load_processor(name, where), model)


def auto_class(config: PreTrainedConfig) -> type:
    """`AutoModel`, unless the folder's own code offers only the other class."""
    offered = getattr(config, "auto_map", None) or {}
    if type(config) not in MODEL_MAPPING and "AutoModel" not in offered:
        return AutoModelForZeroShotImageClassification
    return AutoModel


def load_processor(name: str, where: dict) -> ProcessorMixin:
    with loader_faults(lambda error: no_processor(name, reason_of(error))):
        processor = AutoProcessor.from_pretrained(name, **where)
        # transformers prefers the torchvision backend whatever was saved. Its pixels differ by up to one grey level
        # from open_clip's, and from those that a student was trained on.
        processor.image_processor = AutoImageProcessor.from_pretrained(name, backend="pil", **where)
    if not hasattr(processor, "tokenizer"):
        raise ValueError(no_processor(name, "there is no tokenizer"))
    # A CLIP tokenizer loads silently without its vocabulary, and maps every text to unknown tokens.
    if len(processor.tokenizer) <= len(set(processor.tokenizer.all_special_ids)) + 1:
        raise ValueError(no_processor(name, "the tokenizer has no vocabulary"))
    if not isinstance(length := processor.tokenizer.model_max_length, int | float):
        raise ValueError(no_processor(name, f"the tokenizer's model_max_length is {length!r}, and no number"))
    return processor


def no_processor(name: str, reason: str) -> str:
    return (
        f"{name!r} has a model but no processor that can be loaded ({reason}). "
        "An image processor and a tokenizer must lie beside the model. "
        "Call processor.save_pretrained(...) into that folder."
    )


def check_dual_encoder(model_class: type, name: str, config: PreTrainedConfig):
    if not all(hasattr(model_class, method) for method in REQUIRED_METHODS):
        raise ValueError(
            f"{name!r} holds a {config.model_type!r} model ({model_class.__name__}), which is no dual encoder. "
            f"Allowed are models with {' and '.join(REQUIRED_METHODS)}, such as CLIP and SigLIP. "
            f"Give another model or one of the presets {', '.join(list_models())}."
        )


def check_folder(name: str, subfolder: str):
    if not os.path.isfile(os.path.join(name, subfolder, "config.json")):
        raise ValueError(
            f"The folder {name!r} is no saved model, as it has no config.json. "
            f"Allowed are a folder written by save_pretrained, a Hub id and the presets {', '.join(list_models())}. "
            "Give the folder in which config.json lies (a checkpoint may be one level deeper)."
        )
    for path in Path(name, subfolder).glob("*.bin"):
        refuse_zip_bomb(path)


def unknown_name(name: str) -> str:
    # Lower case lets "vit-t16" find "ViT-T-16".
    presets = {preset.lower(): preset for preset in list_models()}
    close = [presets[match] for match in difflib.get_close_matches(name.lower(), presets, n=1)]
    advice = f"Did you mean load_clip({close[0]!r})?" if close else "Call load_clip with one of these."
    return (
        f"There is no preset, file or folder {name!r}. Allowed are the presets {', '.join(list_models())}, "
        f"the path of a JSON or of a saved model, and a Hub id OWNER/NAME. {advice}"
    )


def cannot_load(name: str, error: Exception) -> str:
    reason = reason_of(error)
    if os.path.isdir(name):
        return (
            f"The folder {name!r} cannot be loaded as a model ({reason}). Allowed is what save_pretrained of a dual "
            "encoder wrote. Save it again, or pass trust_remote_code=True if it brings its own code and you trust it."
        )
    return (
        f"{name!r} is no preset and no folder here, and could not be had from the Hugging Face Hub either ({reason}). "
        f"Allowed are the presets {', '.join(list_models())}, a folder and a Hub id. "
        f"Check the name and the network, or run `hf download {name}` where there is one and give that folder."
    )


__all__ = ["load_clip"]
