"""Students that do not exist yet: from one JSON to a model with fresh weights and its processor."""

import dataclasses
import inspect
import json
import math
from pathlib import Path
from typing import Any

import timm
import torch
from transformers import CLIPConfig, CLIPModel, CLIPProcessor, PreTrainedConfig, PreTrainedModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from .timm_clip.configuration_timm_clip import TimmCLIPConfig, TimmVisionConfig
from .timm_clip.modeling_timm_clip import TimmCLIPModel
from .tokenizer import clip_tokenizer

MODEL_CLASSES = {"clip": (CLIPConfig, CLIPModel), "timm_clip": (TimmCLIPConfig, TimmCLIPModel)}
# What `_from_config` of transformers understands besides the configuration.
BUILD_ARGUMENTS = ("attn_implementation", "dtype")
PIXEL_KEYS = ("image_mean", "image_std", "resample")


def preset_folder() -> Path:
    return Path(__file__).parent / "configs"


def list_models() -> list[str]:
    """Names of the presets that [`load_clip`] builds, one per file of `hf_clip_kd/models/configs`."""
    return sorted(path.stem for path in preset_folder().glob("*.json"))


def build_preset(path: Path, **build_arguments) -> tuple[PreTrainedModel, CLIPProcessor]:
    """
    Builds the student that a JSON describes, with fresh weights drawn from torch's global generator.

    The JSON is a configuration of transformers: `model_type` (`"clip"` for a ViT, `"timm_clip"` for a timm model),
    `projection_dim`, `vision_config` and `text_config`, and whatever else should differ from the defaults. Beside them,
    `image_processor` may say what of `image_mean`, `image_std` and `resample` is not CLIP's.

    Args:
        path (`Path`):
            The JSON.
        build_arguments:
            `dtype` and `attn_implementation` as in `from_pretrained`.

    Raises:
        ValueError: The file is no such configuration, or an argument makes sense only for stored weights.
    """
    if unknown := sorted(set(build_arguments) - set(BUILD_ARGUMENTS)):
        raise ValueError(
            f"load_clip({path.stem!r}) got {', '.join(unknown)}, but a preset has no stored weights; "
            f"allowed with a preset are {' and '.join(BUILD_ARGUMENTS)}; "
            "leave the others out, or give the folder of a saved model."
        )
    values = read_json(path)
    pixels = values.pop("image_processor", {})
    if unknown := sorted(set(pixels) - set(PIXEL_KEYS)):
        raise ValueError(
            f"Unknown key {', '.join(unknown)} in image_processor of {path}; allowed are {', '.join(PIXEL_KEYS)} (the size "
            "follows from vision_config); correct or remove it."
        )
    config = read_config(values, path)
    model = MODEL_CLASSES[config.model_type][1]._from_config(config, **build_arguments)
    return model, build_processor(config, **pixels)


def read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is not valid JSON ({error}); a student is one JSON object; compare it with {preset_folder()}."
        ) from error


def read_config(values: dict[str, Any], path: Path) -> CLIPConfig | TimmCLIPConfig:
    """The checked configuration of a JSON, with the token ids of the tokenizer and the facts of the trunk filled in."""
    model_type = values.pop("model_type", None)
    if model_type not in MODEL_CLASSES:
        raise ValueError(
            f"{path} has model_type={model_type!r}; allowed are {' and '.join(MODEL_CLASSES)}; "
            'write "model_type": "clip" for a ViT or "timm_clip" for a model of timm.'
        )
    config_class = MODEL_CLASSES[model_type][0]
    sub_configs = config_class.sub_configs
    check_keys(values, config_class, f"{path}")
    for name in sub_configs:
        if name not in values:
            raise ValueError(
                f"{path} has no {name}; a student needs {' and '.join(sub_configs)}; "
                f'add "{name}": {{...}} as in the files of {preset_folder()}.'
            )
        check_keys(values[name], sub_configs[name], f"{name} of {path}")

    text = {"vocab_size": 49408, "max_position_embeddings": 77, **values.pop("text_config")}
    # Pooling takes the first end token, and CLIP's tokenizer pads with it.
    end = text["vocab_size"] - 1
    text |= {"bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end}
    vision = values.pop("vision_config")
    values = {"projection_dim": 512, "logit_scale_init_value": math.log(1 / 0.07), **values}
    # The towers repeat the width, for the single-tower classes with a projection.
    text["projection_dim"] = values["projection_dim"]
    if model_type == "timm_clip":
        vision |= measure_trunk(TimmVisionConfig(**vision), path)
    else:
        vision["projection_dim"] = values["projection_dim"]
    return config_class(vision_config=vision, text_config=text, **values)


def check_keys(values: dict[str, Any], config_class: type[PreTrainedConfig], origin: str):
    """Refuses what transformers would silently store as an attribute that nothing reads."""
    allowed = {field.name for field in dataclasses.fields(config_class)}
    if unknown := sorted(set(values) - allowed):
        common = {field.name for field in dataclasses.fields(PreTrainedConfig)}
        raise ValueError(
            f"Unknown key {', '.join(unknown)} in {origin}; allowed are {', '.join(sorted(allowed - common))}; "
            "correct or remove it."
        )


def measure_trunk(config: TimmVisionConfig, path: Path) -> dict[str, Any]:
    """
    Runs a timm model once on a black image and reads off what its configuration must state.

    Returns:
        `dict`: `patch_size`, `hidden_size`, `pooled_size`, `num_hidden_layers`, `num_prefix_tokens` and `grid`.

    Raises:
        ValueError: timm knows no such model, or it cannot be built or run with these arguments.
    """
    if not timm.is_model(config.architecture):
        close = ", ".join(timm.list_models(f"*{config.architecture.split('_')[0]}*")[:8]) or "resnet18, swin_tiny_..."
        raise ValueError(
            f"architecture={config.architecture!r} of {path} is no model of timm {timm.__version__}; "
            f"allowed is any of timm.list_models() (such as {close}); correct the name."
        )
    # The weights drawn here are thrown away, so they must not move the caller's random numbers.
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
        except (AssertionError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"{config.architecture} cannot run with image_size={config.image_size} and "
                f"model_args={config.model_args} of {path} ({type(error).__name__}: {error}); "
                "allowed is what timm.create_model accepts and the trunk can divide; "
                'most transformers of timm need "model_args": {"img_size": <image_size>}.'
            ) from error
    # Some trunks add their class token late or give only the patches; then there is nothing before the grid.
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
    """CLIP's processor for the image size, vocabulary and context length of `config`, with other `PIXEL_KEYS` if given."""
    side = config.vision_config.image_size
    # The Pillow backend computes what open_clip's transform computes; the torchvision one rounds differently. (Where a
    # centre crop leaves an odd margin, open_clip may round it up; transformers always rounds down.)
    crop_size = {"height": side, "width": side}
    image_processor = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size=crop_size, **pixels)
    text = config.text_config
    return CLIPProcessor(image_processor, clip_tokenizer(text.vocab_size, text.max_position_embeddings))


__all__ = ["build_preset", "list_models"]
