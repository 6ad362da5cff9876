"""The model of open_clip to which weights belong: by name, from a JSON, or read off the weights themselves."""

import os
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import open_clip
from open_clip.convert import convert_state_dict
from timm.utils.model import reparameterize_model
from torch import Tensor, nn

from ...recipe_io.foreign import fields, read_json

# Content of a configuration of open_clip, for errors.
ARCHITECTURE = "It must hold a configuration of open_clip, with embed_dim, vision_cfg and text_cfg."


def model_cfg(config: Any, path: str | os.PathLike) -> dict[str, Any]:
    """
    Return the `model_cfg` of a file unchanged.

    Raises:
        ForeignFileError: It lacks a part.
    """
    kinds = {"embed_dim": int, "vision_cfg": dict, "text_cfg": dict}
    fields(config, kinds, path, where="the model", allowed=ARCHITECTURE, fix="Pass another JSON.")
    return config


def read_architecture(architecture: str | os.PathLike) -> dict[str, Any]:
    name = os.fspath(architecture)
    if name.endswith(".json") and os.path.isfile(name):
        config = read_json(name, allowed=ARCHITECTURE, fix="Pass another JSON, or a name of open_clip.")
        return model_cfg(config.get("model_cfg", config), name)
    if name not in open_clip.list_models():
        raise ValueError(
            f"architecture={name!r} is neither a file nor known to open_clip. Allowed are open_clip.list_models() and "
            "JSONs of that schema. Leave it out for a plain ViT."
        )
    return open_clip.get_model_config(name)


def infer_architecture(state: dict[str, Tensor], source: Path) -> dict[str, Any]:
    """Return the `model_cfg` of a CLIP with open_clip's own ViT and text tower, with the sizes of the weights."""
    text = "text." if "text.positional_embedding" in state else ""
    needed = ["visual.conv1.weight", "visual.positional_embedding", "visual.proj", f"{text}positional_embedding"]
    if missing := [key for key in needed if key not in state]:
        raise ValueError(
            f"architecture=None, and the sizes cannot be read off the weights of {str(source)!r}, which have no "
            f"{missing[0]}. Sizes can be read for ViTs of open_clip's own alone. Pass architecture=... (recipe: "
            "--architecture), a name of open_clip.list_models() such as 'MobileCLIP-B', or a JSON."
        )
    width, _, patch_size, _ = state["visual.conv1.weight"].shape
    grid = round((len(state["visual.positional_embedding"]) - 1) ** 0.5)
    context_length, text_width = state[f"{text}positional_embedding"].shape
    layers = {
        name: len({key.split(".")[-4 if "attn" in key else -3] for key in state if re.search(pattern, key)})
        for name, pattern in {
            "vision": r"^visual\.transformer\.resblocks\.\d+\.ln_1\.weight$",
            "text": rf"^{re.escape(text)}transformer\.resblocks\.\d+\.ln_1\.weight$",
        }.items()
    }
    inner = {
        name: state[f"{prefix}transformer.resblocks.0.mlp.c_fc.weight"].shape[0]
        for name, prefix in {"vision": "visual.", "text": text}.items()
    }
    return {
        "embed_dim": state["visual.proj"].shape[1],
        "custom_text": bool(text),
        "vision_cfg": {
            "image_size": grid * patch_size,
            "patch_size": patch_size,
            "layers": layers["vision"],
            "width": width,
            "mlp_ratio": inner["vision"] / width,
        },
        "text_cfg": {
            "context_length": context_length,
            "vocab_size": len(state[f"{text}token_embedding.weight"]),
            "width": text_width,
            "heads": max(text_width // 64, 1),
            "layers": layers["text"],
            "mlp_ratio": inner["text"] / text_width,
        },
    }


def build(config: dict[str, Any], state: dict[str, Tensor], source: Path) -> nn.Module:
    """Return the model of open_clip with all these weights and no others."""
    config = deepcopy(config)
    # Its weights come from the checkpoint; the download of others must not start.
    if "timm_model_name" in config["vision_cfg"]:
        config["vision_cfg"]["timm_model_pretrained"] = False
    custom_text = config.pop("custom_text", False) or "text.positional_embedding" in state
    try:
        model = (open_clip.CustomTextCLIP if custom_text else open_clip.CLIP)(**config)
        if is_reparameterized(state):
            model.visual.trunk = reparameterize_model(model.visual.trunk)
            state = apple_reparameterized(model, state)
        else:
            state = convert_state_dict(model, state)
        model.load_state_dict(state)
    except (ArithmeticError, AttributeError, KeyError, RuntimeError, TypeError) as error:
        lines = [line.strip() for line in str(error).strip().split("\n")]
        raise ValueError(
            f"The weights of {str(source)!r} do not fit the architecture ({' '.join(lines[:2])[:300]}). Allowed are "
            "models whose layers all have the same sizes, with all their weights and no others. Pass the architecture "
            "that they were trained as (recipe: --architecture)."
        ) from error
    return model.eval()


def is_reparameterized(state: dict[str, Tensor]) -> bool:
    """Tell if the weights are those of a model whose branches were folded."""
    return any("reparam_conv" in key for key in state)


def apple_reparameterized(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of a MobileCLIP with folded branches; open_clip recognises Apple's names by a branch."""
    if not any(key.startswith("image_encoder.") for key in state):
        return state
    mark = "image_encoder.model.patch_embed.0.rbr_conv.0.conv.weight"
    converted = convert_state_dict(model, {**state, mark: state["logit_scale"]})
    return {key: value for key, value in converted.items() if not key.endswith("stem.0.conv_kxk.0.conv.weight")}


__all__ = ["ARCHITECTURE", "build", "infer_architecture", "is_reparameterized", "model_cfg", "read_architecture"]
