"""Image tokens of a dual encoder at any layer."""

import math
from typing import NamedTuple

import torch
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from ..eval_mode import eval_mode
from ..timm_clip.configuration_timm_clip import TimmVisionConfig
from .layout import token_layout


class LayerTokens(NamedTuple):
    """Patches `(B, N, C)` of a layer, row by row, and its class token `(B, C)`, or `None` if the tower has none."""

    patches: torch.Tensor
    class_token: torch.Tensor | None


def encode_images(
    model: PreTrainedModel, pixel_values: torch.Tensor, layer: int | None = None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """
    Embed images and, from the same forward pass, keep their tokens at one layer.

    Args:
        model ([`~transformers.PreTrainedModel`]): A dual encoder with `get_image_features`.
        pixel_values (`torch.Tensor` of shape `(B, 3, H, W)`): Normalised images.
        layer (`int`, *optional*):
            Entry of the image tower's `hidden_states`. 0 are the embeddings (a [`TimmCLIPModel`] has none). -1 is the
            last layer before the final norm. -2 is the one that a LLaVA reads by default. `None` keeps no tokens.

    Returns:
        `tuple`: embeddings (B, projection_dim), not normalised, and tokens (B, N, C), row by row, without class and
        register tokens, or `None`.

    Raises:
        ValueError: The tower has no such layer, or it is not known where its patches lie.
    """
    if layer is None:
        return pooled(model.get_image_features(pixel_values=pixel_values)), None
    output = image_output(model, pixel_values, layer)
    return output.pooler_output, patches_of(model, output.hidden_states[layer])


def pooled(output: torch.Tensor | ModelOutput) -> torch.Tensor:
    """
    Return the embedding in the output of `get_image_features` or `get_text_features`.

    Args:
        output (`Tensor` or `~transformers.utils.ModelOutput`):
            transformers 5 returns an output whose `pooler_output` is the projected embedding. transformers 4
            and [`CLIPTeacher`] return the embedding itself.

    Returns:
        `Tensor` of shape `(batch, dim)`, not normalised.
    """
    return output if isinstance(output, torch.Tensor) else output.pooler_output


def image_output(model: PreTrainedModel, pixel_values: torch.Tensor, *layers: int) -> ModelOutput:
    """Return the output of `get_image_features`, with these entries of `hidden_states`."""
    for layer in layers:
        check_layer(model, layer)
    return model.get_image_features(pixel_values=pixel_values, output_hidden_states=list(layers))


def check_layer(model: PreTrainedModel, layer: int) -> None:
    """Raise a `ValueError` if the `hidden_states` of the image tower have no such entry."""
    config = model.config.vision_config
    depth = config.num_hidden_layers
    first = 1 if isinstance(config, TimmVisionConfig) else 0
    if not first <= (layer + depth + 1 if layer < 0 else layer) <= depth:
        raise ValueError(
            f"layer={layer} does not exist in {describe(model)}, which has {depth} layers. Allowed are {first} to "
            f"{depth} and -1 to {first - depth - 1}. For what a LLaVA reads give -2, for example "
            "losses={'patch': {'layer': -2, 'teacher_layer': -2}}."
        )


def tokens_at(model: PreTrainedModel, hidden_state: torch.Tensor) -> LayerTokens:
    """Take a hidden state (B, prefix + N, C) of the image tower apart."""
    first = hidden_state[:, 0] if has_class_token(model) else None
    return LayerTokens(patches_of(model, hidden_state), first)


def has_class_token(model: PreTrainedModel) -> bool:
    """Return whether the first token of the image tower is a class token, not a register or a patch."""
    config = model.config.vision_config
    has_prefix = token_layout(config).num_prefix_tokens > 0
    if isinstance(config, TimmVisionConfig):
        return has_prefix and getattr(model.vision_model.trunk, "cls_token", None) is not None
    return has_prefix


def check_class_token(model: PreTrainedModel) -> None:
    """
    Check that the image tower has a class token.

    Raises:
        ValueError: if not.
    """
    if not has_class_token(model):
        raise no_class_token(describe(model))


def no_class_token(tower: str) -> ValueError:
    """Return the error for a tower, described in words, that has no class token."""
    return ValueError(
        f"{tower} has no class token. ViTs that read one have it, and towers that pool their patches do not. Compare "
        "pooled embeddings: losses={'patch': {'summary': 'image_embeds'}}."
    )


def patches_of(model: PreTrainedModel, hidden_state: torch.Tensor) -> torch.Tensor:
    """Return the tokens (B, N, C) of a hidden state (B, prefix + N, C) of the image tower."""
    return hidden_state[:, token_layout(model.config.vision_config).num_prefix_tokens :]


@torch.no_grad()
def token_shape(model: PreTrainedModel, layer: int) -> tuple[int, tuple[int, int]]:
    """
    Measure the channels and the grid of the tokens at one layer on one black image. The model stays as it was.

    Args:
        model ([`~transformers.PreTrainedModel`]), layer (`int`): As in [`encode_images`].

    Returns:
        `tuple`: the number of channels, and (rows, columns) of the patches; their product is the number of tokens.

    Raises:
        ValueError: As in [`encode_images`], or the tokens form no grid.
    """
    config = model.config.vision_config
    layout = token_layout(config)
    image = torch.zeros(
        1, config.num_channels, config.image_size, config.image_size, device=model.device, dtype=model.dtype
    )
    with eval_mode(model):
        _, tokens = encode_images(model, image, layer)
    count, channels = tokens.shape[1:]
    # The configuration states the grid of the last level. Earlier levels of a convnet have finer ones.
    side = math.isqrt(count)
    grid = layout.grid if math.prod(layout.grid) == count else (side, side)
    if math.prod(grid) != count:
        raise ValueError(
            f"The {count} tokens at layer={layer} of {describe(model)} form neither the grid {layout.grid} of its "
            "configuration nor a square. Tokens must be the patches of a square image, row by row. "
            "Choose another layer, for example layer=-2."
        )
    return channels, grid


def describe(model: PreTrainedModel) -> str:
    """Return the words for a model in an error message."""
    config = model.config.vision_config
    return f"{type(model).__name__} with the image tower {getattr(config, 'architecture', config.model_type)!r}"


__all__ = ["LayerTokens", "check_class_token", "encode_images", "pooled", "token_shape"]
