"""Image towers at other sizes than they were made for: for good, or image by image."""

from __future__ import annotations

import copy
import inspect
import json
import math
from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import resample_abs_pos_embed, to_2tuple
from timm.layers.format import Format
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import PreTrainedModel

from .eval_mode import eval_mode
from .presets import measure_trunk
from .timm_clip.configuration_timm_clip import TimmVisionConfig
from .towers.layout import token_layout

TOWER = "vision_model."
POSITIONS = f"{TOWER}embeddings.position_embedding.weight"
ALLOWED = (
    "Allowed are CLIP, MetaCLIP 2 and SigLIP of transformers at whole numbers of patches, and trunks of timm that run "
    "at the size."
)
ANY_SHAPE = "it takes images of any shape"


def resize_images(model: PreTrainedModel, processor: Any, side: int) -> tuple[PreTrainedModel, Any]:
    """
    Give a dual encoder, or an image tower, another image size.

    Position embeddings are interpolated bicubically to the new grid, with antialiasing as in timm. All other weights
    stay. Configuration and processor have the new size, so folders, exports and a LLaVA do, too.

    Args:
        model ([`~transformers.PreTrainedModel`]): A dual encoder, or what [`load_tower`] returns; not changed.
        processor ([`~transformers.ProcessorMixin`]): Its processor, or that of its images alone; not changed.
        side (`int`): Side of its square images in pixels.

    Returns:
        `tuple`: the model at the new size, and its processor.

    Raises:
        ValueError: The image tower cannot have this size.
    """
    config, weights = copy.deepcopy(model.config), model.state_dict()
    vision = getattr(config, "vision_config", config)
    prefix = "" if vision is config and POSITIONS not in weights else TOWER
    if isinstance(vision, TimmVisionConfig):
        trunk = getattr(model, "vision_model", model).trunk
        weights |= {f"{prefix}trunk.{name}": value for name, value in _resized_trunk(trunk, vision, side).items()}
    else:
        patch = getattr(vision, "patch_size", None)
        if not hasattr(vision, "image_size"):
            raise _refusal(model, side, ANY_SHAPE)
        name = prefix + POSITIONS.removeprefix(TOWER)
        if name not in weights or not isinstance(patch, int) or side < patch or side % patch:
            raise _refusal(model, side, f"its patches have {patch} pixels")
        vision.image_size = side
        before, grid = token_layout(vision).num_prefix_tokens, (side // patch, side // patch)
        weights[name] = resample_abs_pos_embed(weights[name][None], grid, num_prefix_tokens=before)[0]
    # The random numbers of the new weights are thrown away.
    with torch.random.fork_rng(devices=[]):
        resized = type(model)._from_config(
            config, dtype=model.dtype, attn_implementation=model.config._attn_implementation
        )
    resized.load_state_dict(weights)
    learns = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    for name, parameter in resized.named_parameters():
        parameter.requires_grad_(learns[name])
    if hasattr(processor, "image_processor"):
        processor = copy.copy(processor)
        processor.image_processor = sized(processor.image_processor, side)
    else:
        processor = sized(processor, side)
    return resized.to(model.device).train(model.training), processor


def sized(image_processor: Any, side: int) -> Any:
    """Return an image processor of transformers that makes square images of another side, in pixels."""
    settings = image_processor.to_dict()
    old, crop = settings["size"], settings.get("crop_size") or {}
    settings["crop_size"] = {"height": side, "width": side}
    settings["size"] = dict(settings["crop_size"])
    if old.get("shortest_edge"):
        # The share of an image that the crop keeps stays.
        settings["size"] = {"shortest_edge": round(old["shortest_edge"] * side / crop.get("height", side))}
    return type(image_processor).from_dict(settings)


def largest(image_processor: Any, sizes: Sequence[int], name: str) -> Any:
    """
    Return an image processor for images of drawn sizes. It makes the largest, and a step makes them smaller.

    Args:
        image_processor: That of the model, from transformers.
        sizes (`Sequence[int]`), name (`str`): See [`take_sizes`].

    Raises:
        ValueError: `sizes` is no list of sizes, or the processor keeps the shape of images.
    """
    check_sizes(sizes, name)
    if "size" not in image_processor.to_dict():
        raise ValueError(
            f"`{name}={sizes}` with a {type(image_processor).__name__}, which keeps the shape of an image. Sizes are "
            f"drawn for models that see squares. Leave `{name}` out."
        )
    return sized(image_processor, max(sizes))


def check_sizes(sizes: Sequence[int], name: str) -> None:
    """Raise a `ValueError` if `sizes` are no sides of images in pixels."""
    if not sizes or not all(type(side) is int and side > 0 for side in sizes):
        raise ValueError(
            f"`{name}={sizes}` is no choice of image sizes. It must be a list of sides in pixels, such as [192, 224, "
            f"256]. Correct it, or leave `{name}` out."
        )


def _resized_trunk(trunk: nn.Module, vision: TimmVisionConfig, side: int) -> dict[str, Tensor]:
    """Return the weights of a trunk at another size, and note it in `vision`."""
    trunk = copy.deepcopy(trunk)
    patch, _ = to_2tuple(getattr(getattr(trunk, "patch_embed", None), "patch_size", 1))
    try:
        if side < 1 or side % patch:
            raise ValueError(f"its patches have {patch} pixels")
        if hasattr(trunk, "set_input_size"):
            before = dict(getattr(trunk, "_model_args", {}))
            trunk.set_input_size(img_size=(side, side))
            # timm scales the windows of a Swin, too, and notes them. Lists are what a folder's JSON holds.
            noted = getattr(trunk, "_model_args", {}).items()
            changed = json.loads(json.dumps({name: value for name, value in noted if before.get(name) != value}))
            vision.model_args = (vision.model_args or {}) | changed | {"img_size": side}
        vision.image_size = side
        for name, value in measure_trunk(vision, vision.architecture).items():
            setattr(vision, name, value)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"image_size={side}: the trunk {vision.architecture!r} cannot have it ({reason}). {ALLOWED} Give another "
            "size, or leave it out."
        ) from error
    return trunk.state_dict()


def take_sizes(model: nn.Module, sizes: Sequence[int], name: str) -> None:
    """
    Let a model take images of several sizes. Its hidden states keep the grid of its own size.

    Position embeddings are interpolated for each image, and hidden states are resampled. So losses meet the same
    shapes at each size. Weights and configuration stay as they are.

    Args:
        model (`nn.Module`): A dual encoder, or a vision model behind its interface; changed in place.
        sizes (`Sequence[int]`): Sides of square images in pixels.
        name (`str`): Name of the argument that holds the sizes, for the error.

    Raises:
        ValueError: The model cannot take a size, or its tokens have no place in the image there.
    """
    check_sizes(sizes, name)
    tower, config = model.vision_model, model.config.vision_config
    if not hasattr(config, "image_size"):
        raise _refusal(model, sizes[0], ANY_SHAPE, name)
    for module in tower.modules():
        if hasattr(module, "interpolate_pos_encoding") and "interpolate_pos_encoding" in _arguments(module):
            module.register_forward_pre_hook(_interpolated, with_kwargs=True)
        if isinstance(module, VisionTransformer):
            # timm's argument `dynamic_img_size` does the same.
            module.dynamic_img_size, module.patch_embed.strict_img_size = True, False
            module.patch_embed.flatten, module.patch_embed.output_fmt = False, Format.NHWC
    native = _shapes(model, config.image_size)
    prefix = max(getattr(config, "num_prefix_tokens", None) or token_layout(config).num_prefix_tokens, 0)
    own = config.image_size

    def on_own_grid(module, args, kwargs, output):
        drawn = kwargs.get("pixel_values", args[0] if args else None).shape[-1]
        if drawn != own:
            for key in ("last_hidden_state", "hidden_states"):
                if (states := output.get(key)) is not None:
                    output[key] = _on_grid(states, prefix, own / drawn)
        return output

    tower.register_forward_hook(on_own_grid, with_kwargs=True)
    whole = 1 if isinstance(config, TimmVisionConfig) else getattr(config, "patch_size", None) or 1
    for side in sizes:
        if side % whole:
            raise _refusal(model, side, f"its patches have {whole} pixels", name)
        try:
            found = _shapes(model, side)
        except (AssertionError, RuntimeError, TypeError, ValueError) as error:
            raise _refusal(model, side, " ".join(str(error).split()), name) from error
        if found != native:
            raise _refusal(model, side, "its tokens are no square of whole patches", name)


def _arguments(module: nn.Module) -> Any:
    return inspect.signature(module.forward).parameters


def _interpolated(module, args, kwargs):
    return args, kwargs | {"interpolate_pos_encoding": True}


def _on_grid(states: Any, prefix: int, factor: float) -> Any:
    """Resample tokens (B, prefix + n, C) to a grid that is `factor` times as fine; others stay as they are."""
    if isinstance(states, tuple | list):
        return tuple(_on_grid(state, prefix, factor) for state in states)
    side = math.isqrt(states.shape[1] - prefix) if states is not None and states.ndim == 3 else 0
    if side == 0 or side**2 != states.shape[1] - prefix:
        return states
    maps = states[:, prefix:].transpose(1, 2).unflatten(2, (side, side))
    # Reduced precision has no antialiasing on CPUs.
    maps = interpolate(maps.float(), size=round(side * factor), mode="bilinear", antialias=True).to(states.dtype)
    return torch.cat([states[:, :prefix], maps.flatten(2).transpose(1, 2)], dim=1)


@torch.no_grad()
def _shapes(model: nn.Module, side: int) -> list[tuple[int, ...] | None]:
    """Return the shapes of the embedding and of all hidden states of a black image."""
    config, weight = model.config.vision_config, next(model.vision_model.parameters())
    image = torch.zeros(1, config.num_channels, side, side, device=weight.device, dtype=weight.dtype)
    with eval_mode(model):
        output = model.get_image_features(pixel_values=image, output_hidden_states=True)
    states = [output.pooler_output, *(output.hidden_states or ())]
    return [None if state is None else tuple(state.shape) for state in states]


def _refusal(model: nn.Module, side: int, reason: str, name: str = "image_size") -> ValueError:
    return ValueError(
        f"`{name}`: {side} pixels are no size for the image tower of {type(model).__name__} ({reason}). {ALLOWED} "
        "Give another size, or leave it out."
    )


__all__ = ["largest", "resize_images", "sized", "take_sizes"]
