"""Hidden states of any image tower, layer by layer."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from ... import models
from ...models.open_clip import is_open_clip
from ...models.towers.tokens import describe, patches_of, pooled
from ...teachers.clip import CLIPTeacher
from ...teachers.vision import VisionTower, check_tokens

READ_LAYER = -2  # The entry of `hidden_states` that a LLaVA reads.


class TowerOutput(NamedTuple):
    """
    Output of an image tower for a batch.

    `embeds` `(batch, dim)` are as the model returns them, not normalised. `layers` are the patches `(batch, tokens,
    channels)` after each block, shallow ones first, without class and register tokens. `layers[i]` is
    `hidden_states[i + 1]` of transformers, so negative indices count alike.
    """

    embeds: Tensor
    layers: tuple[Tensor, ...]


def read_tower(model: nn.Module, pixel_values: Tensor) -> TowerOutput:
    """
    Run images through the image tower of a dual encoder or teacher, and keep every layer.

    Args:
        model (`nn.Module`):
            A [`~transformers.CLIPModel`], a [`TimmCLIPModel`] or another dual encoder of transformers. Also a
            [`CLIPTeacher`] around one of them, a model of open_clip or a vision model.
        pixel_values (`Tensor` of shape `(batch, 3, height, width)`): Images for this model.

    Raises:
        ValueError: The place of this model's patches is not known.
    """
    model, pixel_values = unwrapped(model), placed(model, pixel_values)
    if is_open_clip(model):
        from ...models.open_clip import tokens as open_clip_tokens

        depth = open_clip_tokens.depth(model.visual)
        embeds, _, maps, _ = open_clip_tokens.run(model.visual, pixel_values, list(range(1, depth + 1)))
        return TowerOutput(embeds, tuple(level.flatten(2).transpose(1, 2) for level in maps))
    if isinstance(model, VisionTower):
        check_tokens(model)
    models.token_layout(model.config.vision_config)  # It raises the error of an unknown layout early.
    output = model.get_image_features(pixel_values=pixel_values, output_hidden_states=True)
    return TowerOutput(pooled(output), tuple(patches_of(model, state) for state in output.hidden_states[1:]))


def read_patches(model: nn.Module, pixel_values: Tensor) -> Tensor:
    """
    Return patches in the joint space of images and texts, see [`~hf_clip_kd.models.encode_patches`].

    Args:
        model (`nn.Module`), pixel_values (`Tensor`): See [`read_tower`].

    Returns:
        `Tensor` of shape `(batch, patches, dim)`, not normalised.

    Raises:
        ValueError: See [`check_patches`].
    """
    inner = unwrapped(model)
    return towers(inner).encode_layers(inner, placed(model, pixel_values), patch_embeds=True)[2]


def check_patches(model: nn.Module) -> None:
    """Raise a `ValueError` if a model has no joint space of single patches and texts."""
    inner = unwrapped(model)
    if isinstance(inner, VisionTower):
        raise ValueError(
            f"{describe(inner)} embeds no texts, so its patches are near none. Models that do are dual encoders. Take "
            "one, for example 'openai/clip-vit-base-patch16', or leave the texts out."
        )
    towers(inner).check_patch_embeds(inner)


def embeds_texts(model: nn.Module) -> bool:
    """Return whether the model has a text tower."""
    return not isinstance(unwrapped(model), VisionTower)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside a teacher, or the model itself."""
    return model.model if isinstance(model, CLIPTeacher) else model


def placed(model: nn.Module, pixel_values: Tensor) -> Tensor:
    """Return images on the model's device, in the type of its weights."""
    weight = next(model.parameters())
    return pixel_values.to(weight.device, weight.dtype)


def towers(model: nn.Module):
    """Return the module whose functions read patches of this kind of model."""
    if not is_open_clip(model):
        return models
    from ...models.open_clip import tokens as open_clip_tokens

    return open_clip_tokens
