"""Number and layout of an image's tokens, measured on the tower."""

import math
from typing import NamedTuple

import torch
from transformers import PreTrainedModel

from ..models import TimmVisionConfig
from ..models.eval_mode import eval_mode


class ImageTokens(NamedTuple):
    """
    Numbers about the tokens of one image, for LLaVA's configuration and processor.

    `count` tokens reach the language model. They are the `grid` (rows, columns) of patches of `patch_size` pixels,
    after `num_prefix_tokens` (class token and registers) of the tower. `select_strategy` `"default"` drops token 0.
    """

    count: int
    grid: tuple[int, int]
    patch_size: int
    num_prefix_tokens: int
    select_strategy: str


def measure_image_tokens(tower: PreTrainedModel, layer: int | list[int], image_size: int) -> ImageTokens:
    """
    Run a tower on one black image as LLaVA will, and count its tokens.

    A class token is dropped (`"default"`); registers stay, as tokens that the language model may read. The
    configuration of a [`TimmVisionModel`] is adapted. `hidden_size` becomes the width of the tokens. `feature_layers`
    brings levels of different grids or widths together.

    Args:
        tower ([`~transformers.PreTrainedModel`]): The image tower.
        layer (`int` or `list[int]`): Entries of its `hidden_states`, LLaVA's `vision_feature_layer`.
        image_size (`int`): Side of the image in pixels.

    Raises:
        ValueError: The tower has no such layer, does not take this image size, or has no square grid of tokens.
    """
    layers = check_layer(layer)
    config = tower.config
    is_timm = config.model_type == TimmVisionConfig.model_type
    if is_timm:
        config.feature_layers = None
        config.image_size = image_size
    states = read_layers(tower, layer, layers, image_size)
    if is_timm and config.num_prefix_tokens == 0 and len({state.shape for state in states}) > 1:
        config.feature_layers = layers
        states = read_layers(tower, layer, layers, image_size)
    shapes = {tuple(state.shape[1:]) for state in states}
    if len(shapes) > 1:
        raise ValueError(
            f"The layers {layers} of {name_of(tower)} have tokens of the shapes (number, width) "
            f"{', '.join(map(str, sorted(shapes)))}. A LLaVA lays them side by side, so they must be equal. Read one "
            f"of them: build_llava(..., vision_feature_layer={layers[-1]})."
        )
    ((count, width),) = shapes
    prefix, side = layout_of(tower, count, image_size, layers)
    if is_timm:
        config.hidden_size, config.grid, config.patch_size = width, [side, side], image_size // side
    if width != config.hidden_size:
        raise ValueError(
            f"The tokens of {name_of(tower)} at layer {layers} are {width} wide and its configuration says "
            f"hidden_size={config.hidden_size}, from which LLaVA builds its projector. Allowed are towers of one "
            "width. Take the same architecture from timm: build_llava('timm:NAME', ...)."
        )
    has_class = has_class_token(tower, prefix)
    return ImageTokens(
        count=count - 1 if has_class else count,
        grid=(side, side),
        patch_size=image_size // side,
        num_prefix_tokens=prefix,
        select_strategy="default" if has_class else "full",
    )


def check_layer(layer: int | list[int]) -> list[int]:
    """Return the layers as a list, or raise a `ValueError` if LLaVA cannot read them."""
    layers = [layer] if isinstance(layer, int) else list(layer)
    # The libraries test for 0 as for False, and then return no hidden states.
    if isinstance(layer, bool) or not layers or layers == [0] or not all(type(index) is int for index in layers):
        raise ValueError(
            f"vision_feature_layer={layer!r} names no layer that a LLaVA can read. Allowed are an integer other than "
            "0 or a list of integers. The usual one is the last but one: build_llava(..., vision_feature_layer=-2)."
        )
    return layers


@torch.no_grad()
def read_layers(tower: PreTrainedModel, layer, layers: list[int], image_size: int) -> list[torch.Tensor]:
    """Return the hidden states (1, N, C) of a black image at each of the layers, and leave the tower unchanged."""
    wanted = layer if isinstance(layer, int) else layers
    try:
        with eval_mode(tower):
            # `LlavaModel` calls it the same way: the indices replace True.
            output = tower(black_image(tower, image_size), output_hidden_states=wanted, return_dict=True)
        states = [output.hidden_states[index] for index in layers]
    except (AssertionError, AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{name_of(tower)} cannot give layer {layers} of an image of {image_size}x{image_size} pixels "
            f"({type(error).__name__}: {error}). Allowed are towers that return hidden states of the layer asked for, "
            "at the size that their image processor makes. Check vision_feature_layer and image_processor of "
            "build_llava."
        ) from error
    if bad := [index for index, state in zip(layers, states, strict=True) if state is None or state.ndim != 3]:
        raise ValueError(
            f"{name_of(tower)} gives no tokens (batch, number, width) at layer {bad}. A LLaVA reads those of "
            "transformers' ViTs and of timm's models. Write build_llava('timm:NAME', ...) for a convnet."
        )
    return states


def black_image(tower: PreTrainedModel, side: int) -> torch.Tensor:
    """Return zeros (1, C, side, side) as pixels for the tower."""
    parameter = next(tower.parameters())
    channels = getattr(tower.config, "num_channels", 3)
    return torch.zeros(1, channels, side, side, device=parameter.device, dtype=parameter.dtype)


def layout_of(tower: PreTrainedModel, count: int, image_size: int, layers: list[int]) -> tuple[int, int]:
    """Return the number of tokens before the patches, and the side of the patches' grid."""
    config = tower.config
    if config.model_type == TimmVisionConfig.model_type:
        prefix = config.num_prefix_tokens
    else:
        patch = config.patch_size if isinstance(config.patch_size, int) else config.patch_size[0]
        prefix = count - (image_size // patch) ** 2
    side = math.isqrt(max(count - prefix, 0))
    # The last term is LlavaProcessor's count, with a whole number of pixels as the size of a patch.
    if prefix < 0 or side == 0 or side**2 != count - prefix or image_size // (image_size // side) != side:
        raise ValueError(
            f"{name_of(tower)} makes {count} tokens of an image of {image_size}x{image_size} pixels at layer "
            f"{layers}, and these are no square grid that divides the image behind class and register tokens. "
            "LlavaProcessor can count no others. Choose another vision_feature_layer, such as -1, or an image size "
            "that the tower divides."
        )
    return prefix, side


def has_class_token(tower: PreTrainedModel, prefix: int) -> bool:
    """Return whether token 0 is a class token. Trunks of timm may have registers alone; stock towers have it first."""
    if tower.config.model_type == TimmVisionConfig.model_type:
        return prefix > 0 and getattr(tower.trunk, "cls_token", None) is not None
    return prefix > 0


def name_of(tower: PreTrainedModel) -> str:
    return f"The tower {getattr(tower.config, 'architecture', type(tower).__name__)}"


__all__ = ["ImageTokens", "measure_image_tokens"]
