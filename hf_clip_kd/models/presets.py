"""New students: a model with fresh weights and its processor, built from one JSON."""

import dataclasses
import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import CLIPConfig, CLIPModel, CLIPProcessor, PreTrainedConfig, PreTrainedModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from ..recipe_io.foreign import ForeignFileError, fields, read_json
from .timm_clip.configuration_timm_clip import TimmCLIPConfig, TimmVisionConfig
from .timm_clip.modeling_timm_clip import TimmCLIPModel
from .tokenizer import clip_tokenizer

MODEL_CLASSES = {"clip": (CLIPConfig, CLIPModel), "timm_clip": (TimmCLIPConfig, TimmCLIPModel)}
# Arguments of `_from_config` of transformers besides the configuration.
BUILD_ARGUMENTS = ("attn_implementation", "dtype")
PIXEL_KEYS = ("image_mean", "image_std", "resample")
WORDS = {
    "allowed": "A student is a JSON mapping.",
    "fix": "Compare it with the files of hf_clip_kd/models/configs.",
}


def preset_folder() -> Path:
    return Path(__file__).parent / "configs"


def list_models() -> list[str]:
    """Return the names of the presets that [`load_clip`] builds, one per file of `hf_clip_kd/models/configs`."""
    return sorted(path.stem for path in preset_folder().glob("*.json"))


def build_preset(path: Path, **build_arguments) -> tuple[PreTrainedModel, CLIPProcessor]:
    """
    Build the student that a JSON describes, with fresh weights from torch's global generator.

    The JSON is a configuration of transformers. It has `model_type` (`"clip"` for a ViT, `"timm_clip"` for a timm
    model), `vision_config` and `text_config`. It may have `projection_dim` and other values that differ from the
    defaults. `image_processor` may hold `image_mean`, `image_std` and `resample` if they differ from CLIP's.

    Args:
        path (`Path`):
            Path of the JSON.
        build_arguments:
            `dtype` and `attn_implementation` as in `from_pretrained`.

    Returns:
        `tuple`: the model and its processor.

    Raises:
        ValueError: if the file is not such a configuration.
        ValueError: if an argument makes sense only for stored weights.
    """
    if unknown := sorted(set(build_arguments) - set(BUILD_ARGUMENTS)):
        raise ValueError(
            f"load_clip({path.stem!r}) got {', '.join(unknown)}, but a preset has no stored weights. "
            f"A preset takes {' and '.join(BUILD_ARGUMENTS)}. "
            "Leave the others out, or pass the folder of a saved model."
        )
    with named(path):
        return _build(read_json(path, **WORDS), path, build_arguments)


def _build(values: dict[str, Any], path: Path, build_arguments: dict[str, Any]):
    (pixels,) = fields(values, {"image_processor": dict | None}, path, where="the file", **WORDS)
    values.pop("image_processor", None)
    pixels = pixels or {}
    if unknown := sorted(set(pixels) - set(PIXEL_KEYS)):
        raise ForeignFileError(
            f"Unknown key {', '.join(unknown)} in image_processor of {path}. "
            f"Allowed are {', '.join(PIXEL_KEYS)} (the size follows from vision_config). Correct or remove it."
        )
    kinds = {"image_mean": list[float] | None, "image_std": list[float] | None, "resample": int | None}
    fields(pixels, kinds, path, where="image_processor", **WORDS)
    config = read_config(values, path)
    model = MODEL_CLASSES[config.model_type][1]._from_config(config, **build_arguments)
    return model, build_processor(config, **pixels)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Turn errors that a wrong value of a JSON makes deep in transformers or timm into [`ForeignFileError`]."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, StrictDataclassError, TypeError) as error:
        problem = f"its values build no student ({type(error).__name__}: {' '.join(str(error).split())})"
        raise ForeignFileError(path, problem, **WORDS) from error


def read_config(values: dict[str, Any], path: Path) -> CLIPConfig | TimmCLIPConfig:
    """
    Check the values of a JSON and return its configuration.

    The token ids of the tokenizer and the sizes of a timm trunk are filled in.

    Raises:
        ValueError: if a value is missing or unknown.
    """
    model_type = values.pop("model_type", None)
    if not isinstance(model_type, str) or model_type not in MODEL_CLASSES:
        raise ForeignFileError(
            f"{path} has model_type={model_type!r}. Allowed are {' and '.join(MODEL_CLASSES)}. "
            'Write "model_type": "clip" for a ViT or "timm_clip" for a model of timm.'
        )
    config_class = MODEL_CLASSES[model_type][0]
    sub_configs = config_class.sub_configs
    check_keys(values, config_class, str(path))
    fields(values, dict.fromkeys(sub_configs, dict | None), path, where="the file", **WORDS)
    for name in sub_configs:
        if values.get(name) is None:
            raise ForeignFileError(
                f"{path} has no {name}. A student needs {' and '.join(sub_configs)}. "
                f'Add "{name}": {{...}} as in the files of {preset_folder()}.'
            )
        check_keys(values[name], sub_configs[name], f"{name} of {path}")

    text = {"vocab_size": 49408, "max_position_embeddings": 77, **values.pop("text_config")}
    # CLIP's tokenizer pads with the end token. Pooling takes the first one.
    end = text["vocab_size"] - 1
    text |= {"bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end}
    vision = values.pop("vision_config")
    values = {"projection_dim": 512, "logit_scale_init_value": math.log(1 / 0.07), **values}
    # The towers repeat the width for the classes of single towers with a projection.
    text["projection_dim"] = values["projection_dim"]
    if model_type == "timm_clip":
        vision |= measure_trunk(TimmVisionConfig(**vision), path)
    else:
        vision["projection_dim"] = values["projection_dim"]
    return config_class(vision_config=vision, text_config=text, **values)


def check_keys(values: dict[str, Any], config_class: type[PreTrainedConfig], origin: str):
    """Raise an error for unknown keys. transformers would store them silently, and nothing would read them."""
    allowed = {field.name for field in dataclasses.fields(config_class)}
    if unknown := sorted(set(values) - allowed):
        common = {field.name for field in dataclasses.fields(PreTrainedConfig)}
        raise ForeignFileError(
            f"Unknown key {', '.join(unknown)} in {origin}. Allowed are {', '.join(sorted(allowed - common))}. "
            "Correct or remove it."
        )


def measure_trunk(config: TimmVisionConfig, path: Path) -> dict[str, Any]:
    """
    Run a timm model once on a black image and measure the values of its configuration.

    Returns:
        `dict`: `patch_size`, `hidden_size`, `pooled_size`, `num_hidden_layers`, `num_prefix_tokens` and `grid`.

    Raises:
        ValueError: if timm has no such model, or cannot build or run it with these arguments.
    """
    if not timm.is_model(config.architecture):
        close = ", ".join(timm.list_models(f"*{config.architecture.split('_')[0]}*")[:8]) or "resnet18, swin_tiny_..."
        raise ForeignFileError(
            f"architecture={config.architecture!r} of {path} is no model of timm {timm.__version__}. "
            f"Allowed is any of timm.list_models() (such as {close}). Correct the name."
        )
    # These weights are thrown away. Their random numbers must not move the caller's generator.
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            trunk = timm.create_model(
                config.architecture, num_classes=0, in_chans=config.num_channels, **(config.model_args or {})
            ).eval()
            image = torch.zeros(1, config.num_channels, config.image_size, config.image_size)
            features = trunk.forward_features(image)
            pooled_size = trunk.forward_head(features, pre_logits=True).shape[-1]
            maps = [features]
            if hasattr(trunk, "forward_intermediates"):
                maps = trunk.forward_intermediates(image, output_fmt="NCHW", norm=False, intermediates_only=True)
        except (ArithmeticError, AssertionError, RuntimeError, TypeError, ValueError) as error:
            raise ForeignFileError(
                f"{config.architecture} cannot run with image_size={config.image_size} and "
                f"model_args={config.model_args} of {path} ({type(error).__name__}: {error}). "
                "timm must accept the arguments, and the trunk must divide the image size. "
                'Correct them: most transformers of timm need "model_args": {"img_size": <image_size>}.'
            ) from error
    # Some trunks add their class token late or return only the patches. Then no token stands before the grid.
    gives_prefix = (
        len(maps) > 1 and "return_prefix_tokens" in inspect.signature(trunk.forward_intermediates).parameters
    )
    channels_last = len(maps) == 1 and str(getattr(trunk, "output_fmt", "NCHW")) == "NHWC"
    rows, columns, width = maps[-1].shape[1:] if channels_last else (*maps[-1].shape[2:], maps[-1].shape[1])
    return {
        "patch_size": config.image_size // rows,
        "hidden_size": width,
        "pooled_size": pooled_size,
        "num_hidden_layers": len(maps),
        "num_prefix_tokens": getattr(trunk, "num_prefix_tokens", 0) if gives_prefix else 0,
        "grid": [rows, columns],
    }


def build_processor(config: CLIPConfig | TimmCLIPConfig, **pixels: Any) -> CLIPProcessor:
    """Build CLIP's processor for the image size, vocabulary and context length of `config`.

    Args:
        config: Configuration of a student.
        pixels: Values of `PIXEL_KEYS` that differ from CLIP's.
    """
    side = config.vision_config.image_size
    # The Pillow backend computes the same as open_clip's transform. The torchvision backend rounds differently.
    # One difference is left: open_clip may round an odd margin of a centre crop up, transformers rounds down.
    crop_size = {"height": side, "width": side}
    image_processor = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size=crop_size, **pixels)
    text = config.text_config
    return CLIPProcessor(image_processor, clip_tokenizer(text.vocab_size, text.max_position_embeddings))


__all__ = ["build_preset", "list_models"]
