"""The open_clip format: `open_clip_config.json` and `open_clip_model.safetensors` beside the tokenizer.

Loads by `open_clip.create_model_and_transforms("local-dir:FOLDER")` and, once pushed, `"hf-hub:ORG/REPO"`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import BaseImageProcessor, CLIPModel, CLIPTextConfig, PreTrainedModel, ProcessorMixin

from ..models import TimmCLIPModel
from .native import to_native
from .parity import Answer, Probe, ask

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
ALLOWED = (
    "Allowed are CLIP models with ViT towers and gelu or quick_gelu, and students on trunks that open_clip builds by "
    "their timm name alone. Leave 'open_clip' out, the other formats stand without it"
)


def write_open_clip(folder: Path, model: PreTrainedModel, processor: ProcessorMixin, repo_id: str | None) -> None:
    """
    Write configuration and weights; the tokenizer lies in the folder already.

    Args:
        repo_id (`str`, *optional*):
            Hub repository of the folder. open_clip finds our tokenizer by it when it loads from the Hub.

    Raises:
        ValueError: No model of open_clip computes the same.
    """
    try:
        model_cfg, state = to_open_clip(model)
        preprocess_cfg = preprocessing(processor.image_processor, model.config.vision_config.image_size)
    except ValueError as error:
        raise ValueError(
            f"This {type(model).__name__} cannot be exported as 'open_clip': {error}. {ALLOWED}."
        ) from error
    # open_clip takes the tokenizer in a local folder under any name, and on the Hub the one of this name.
    model_cfg["text_cfg"]["hf_tokenizer_name"] = repo_id or "."
    save_open_clip(folder, model_cfg, preprocess_cfg, state)


def save_open_clip(folder: Path, model_cfg: dict, preprocess_cfg: dict, state: dict[str, Tensor]) -> None:
    config = {"model_cfg": model_cfg, "preprocess_cfg": preprocess_cfg}
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_file({key: value.detach().clone().contiguous() for key, value in state.items()}, folder / WEIGHTS)


def to_open_clip(model: PreTrainedModel) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the `model_cfg` and the state dict of a model of open_clip: its own ViT, else a trunk of timm."""
    if isinstance(model, TimmCLIPModel):
        try:
            return from_clip(to_native(model))
        except ValueError:
            return from_timm(model)
    return from_clip(model)


def from_clip(model: PreTrainedModel) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not isinstance(model, CLIPModel):
        raise ValueError("it is no CLIPModel")
    vision, text = model.config.vision_config, model.config.text_config
    if vision.hidden_act != text.hidden_act:
        raise ValueError(f"its activations are {vision.hidden_act} and {text.hidden_act}, open_clip has one for both")
    if vision.num_channels != 3:
        raise ValueError(f"its images have {vision.num_channels} channels")
    model_cfg = {
        "embed_dim": model.config.projection_dim,
        "quick_gelu": uses_quick_gelu(text),
        "vision_cfg": {
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "layers": vision.num_hidden_layers,
            "width": vision.hidden_size,
            "head_width": vision.hidden_size // vision.num_attention_heads,
            "mlp_ratio": vision.intermediate_size / vision.hidden_size,
            "norm_kwargs": {"eps": vision.layer_norm_eps},
        },
        "text_cfg": text_config(text),
    }
    tower = model.vision_model.state_dict()
    state = {
        "visual.class_embedding": tower["embeddings.class_embedding"],
        "visual.conv1.weight": tower["embeddings.patch_embedding.weight"],
        "visual.positional_embedding": tower["embeddings.position_embedding.weight"],
        "visual.proj": model.visual_projection.weight.T,
        **renamed(tower, "pre_layrnorm", "visual.ln_pre"),
        **renamed(tower, "post_layernorm", "visual.ln_post"),
        **blocks(tower, vision.num_hidden_layers, "visual.transformer.resblocks"),
        **text_state(model, ""),
    }
    return model_cfg, state


def from_timm(model: TimmCLIPModel) -> tuple[dict[str, Any], dict[str, Tensor]]:
    vision, text = model.config.vision_config, model.config.text_config
    model_cfg = {
        "embed_dim": model.config.projection_dim,
        "quick_gelu": uses_quick_gelu(text),
        "custom_text": True,
        "vision_cfg": {
            "timm_model_name": vision.architecture,
            "timm_model_pretrained": False,
            "timm_pool": "",
            "timm_proj": "linear",
            "image_size": vision.image_size,
        },
        "text_cfg": text_config(text),
    }
    state = {f"visual.trunk.{key}": value for key, value in model.vision_model.trunk.state_dict().items()}
    state["visual.head.proj.weight"] = model.visual_projection.weight
    state |= text_state(model, "text.")
    options = {key: value for key, value in model_cfg.items() if key != "custom_text"}
    try:
        open_clip.CustomTextCLIP(**options).load_state_dict(state)
    # timm builds another trunk, or none, if it lacks the arguments that ours was built with.
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).strip().split("\n")[-1].strip()
        raise ValueError(f"open_clip builds {vision.architecture} otherwise ({reason})") from error
    return model_cfg, state


def uses_quick_gelu(text: CLIPTextConfig) -> bool:
    if text.hidden_act not in ("gelu", "quick_gelu"):
        raise ValueError(f"its activation is {text.hidden_act}")
    return text.hidden_act == "quick_gelu"


def text_config(text: CLIPTextConfig) -> dict[str, Any]:
    # transformers reads CLIP's embedding at the largest id if the end token is 2, as open_clip does by default.
    legacy = text.eos_token_id == 2
    return {
        "context_length": text.max_position_embeddings,
        "vocab_size": text.vocab_size,
        "width": text.hidden_size,
        "heads": text.num_attention_heads,
        "layers": text.num_hidden_layers,
        "mlp_ratio": text.intermediate_size / text.hidden_size,
        "norm_kwargs": {"eps": text.layer_norm_eps},
        "pool_type": "argmax" if legacy else "eos",
        "eos_id": text.eos_token_id,
    }


def text_state(model: PreTrainedModel, prefix: str) -> dict[str, Tensor]:
    tower = model.text_model.state_dict()
    state = {
        "token_embedding.weight": tower["embeddings.token_embedding.weight"],
        "positional_embedding": tower["embeddings.position_embedding.weight"],
        "text_projection": model.text_projection.weight.T,
        **renamed(tower, "final_layer_norm", "ln_final"),
        **blocks(tower, model.config.text_config.num_hidden_layers, "transformer.resblocks"),
    }
    return {f"{prefix}{key}": value for key, value in state.items()} | {"logit_scale": model.logit_scale}


def blocks(tower: dict[str, Tensor], layers: int, name: str) -> dict[str, Tensor]:
    """Join query, key and value in one matrix, as open_clip keeps them."""
    state = {}
    for index in range(layers):
        theirs, ours = f"{name}.{index}", f"encoder.layers.{index}"
        for kind in ("weight", "bias"):
            parts = [tower[f"{ours}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
            state[f"{theirs}.attn.in_proj_{kind}"] = torch.cat(parts)
        for new, old in {
            "attn.out_proj": "self_attn.out_proj",
            "ln_1": "layer_norm1",
            "ln_2": "layer_norm2",
            "mlp.c_fc": "mlp.fc1",
            "mlp.c_proj": "mlp.fc2",
        }.items():
            state |= renamed(tower, f"{ours}.{old}", f"{theirs}.{new}")
    return state


def renamed(tower: dict[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    return {f"{new}.{kind}": tower[f"{old}.{kind}"] for kind in ("weight", "bias")}


def preprocessing(image_processor: BaseImageProcessor, side: int) -> dict[str, Any]:
    """Return the `preprocess_cfg` of an image processor like CLIP's."""
    size, crops = dict(image_processor.size), getattr(image_processor, "do_center_crop", False)
    if crops and size.get("shortest_edge") == side:
        resize_mode = "shortest"
    elif size.get("height") == size.get("width") == side:
        resize_mode = "squash"
    else:
        raise ValueError(f"its images are resized to {size}, and open_clip resizes to the {side} pixels of the model")
    interpolation = {2: "bilinear", 3: "bicubic"}.get(int(image_processor.resample))
    if interpolation is None:
        raise ValueError(f"its images are resized with filter {image_processor.resample}, open_clip knows two others")
    return {
        "mean": list(image_processor.image_mean),
        "std": list(image_processor.image_std),
        "interpolation": interpolation,
        "resize_mode": resize_mode,
    }


def ask_open_clip(folder: Path, probe: Probe) -> Answer:
    """Return the answer of open_clip's model from a folder, with open_clip's own transform and tokenizer."""
    name = f"local-dir:{folder}"
    model, _, transform = open_clip.create_model_and_transforms(name)
    tokenizer = open_clip.get_tokenizer(name)
    return ask(
        model.eval().encode_image,
        model.encode_text,
        torch.stack([transform(picture) for picture in probe.pictures]),
        tokenizer(probe.texts),
        model.logit_scale.detach().exp(),
        probe,
    )


__all__ = ["ask_open_clip", "save_open_clip", "write_open_clip"]
