"""Tokens and dense embeddings of open_clip image towers; layers are numbered as in transformers.

Other modules import this one only when a teacher asks for it, since open_clip takes seconds.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn

from ..towers.patch_embeds import alone, has_value_path, no_patch_embeds, reads_class_token, trunk_patch_embeds
from ..towers.tokens import LayerTokens, no_class_token


def encode_layers(
    model: nn.Module, pixel_values: Tensor, layers: Sequence[int] = (), patch_embeds: bool = False
) -> tuple[Tensor, dict[int, LayerTokens], Tensor | None]:
    """
    Do what [`~hf_clip_kd.models.encode_layers`] does for an open_clip model: same arguments, results and errors.

    There is no layer 0. A ResNet of CLIP has 5 layers, stem and stages. Its patch embeddings are the value path of its
    attention pooling (MaskCLIP, https://huggingface.co/papers/2112.01071).
    """
    last = depth(model.visual)
    for layer in layers:
        check_layer(model, layer)
    numbers = {layer: layer % (last + 1) for layer in layers}
    wanted = {last, *numbers.values()}
    if patch_embeds:
        check_patch_embeds(model)
        check_layer(model, -2)
        wanted.add(last - 1)
    wanted = sorted(wanted)
    embeds, features, maps, first = run(model.visual, pixel_values, wanted)
    tokens = {
        index: LayerTokens(values.flatten(2).transpose(1, 2), class_token)
        for index, values, class_token in zip(wanted, maps, first, strict=True)
    }
    patches = None
    if patch_embeds:
        patches = patch_embeddings(model.visual, features, tokens[last].patches, tokens[last - 1].patches)
    return embeds, {layer: tokens[number] for layer, number in numbers.items()}, patches


@torch.no_grad()
def token_shape(model: nn.Module, layer: int) -> tuple[int, tuple[int, int]]:
    """Do what [`~hf_clip_kd.models.token_shape`] does for an open_clip model in eval mode."""
    check_layer(model, layer)
    weight = next(model.visual.parameters())
    size = model.visual.image_size
    image = torch.zeros(
        1, 3, *((size, size) if isinstance(size, int) else size), device=weight.device, dtype=weight.dtype
    )
    last = depth(model.visual)
    wanted = sorted({last, layer % (last + 1)})
    _, _, maps, _ = run(model.visual, image, wanted)
    channels, rows, columns = maps[0].shape[1:]
    return channels, (rows, columns)


def check_patch_embeds(model: nn.Module) -> None:
    """Raise a `ValueError` if [`encode_layers`] has no embeddings of patches for this model."""
    visual = model.visual
    if isinstance(visual, TimmModel):
        # abs_attn and rot_attn pool maps of a fixed size.
        can = not hasattr(visual.head, "pool")
        can = can and (not reads_class_token(visual.trunk) or has_value_path(visual.trunk))
    elif isinstance(visual, VisionTransformer):
        simple = type(visual.transformer.resblocks[-1]) is ResidualAttentionBlock or visual.pool_type == "avg"
        can = visual.attn_pool is None and simple
    else:
        can = isinstance(visual, ModifiedResNet)
    if not can:
        raise no_patch_embeds(describe(model))


def check_class_token(model: nn.Module) -> None:
    """Raise a `ValueError` if the image tower has no class token."""
    if not has_class_token(model.visual):
        raise no_class_token(describe(model))


def has_class_token(visual: nn.Module) -> bool:
    """Return whether [`encode_layers`] has class tokens of this tower."""
    if isinstance(visual, TimmModel):
        takes_prefix = "return_prefix_tokens" in inspect.signature(visual.trunk.forward_intermediates).parameters
        return takes_prefix and getattr(visual.trunk, "cls_token", None) is not None
    return isinstance(visual, VisionTransformer)


def check_layer(model: nn.Module, layer: int) -> None:
    """Raise a `ValueError` if the image tower has no such layer."""
    last = depth(model.visual)
    if not 1 <= (layer + last + 1 if layer < 0 else layer) <= last:
        raise ValueError(
            f"layer={layer} does not exist in {describe(model)}, which has {last} layers. Allowed are 1 to {last} and "
            f"-1 to {-last}. For the last but one give losses={{'patch': {{'teacher_layer': -2}}}}."
        )


def describe(model: nn.Module) -> str:
    visual = model.visual
    return (
        f"open_clip's {type(model).__name__} with the image tower {type(getattr(visual, 'trunk', visual)).__name__!r}"
    )


def depth(visual: nn.Module) -> int:
    """Return the number of layers whose outputs `forward_intermediates` gives."""
    if isinstance(visual, TimmModel):
        return len(visual.trunk.feature_info)
    return 5 if isinstance(visual, ModifiedResNet) else len(visual.transformer.resblocks)


def run(
    visual: nn.Module, pixel_values: Tensor, layers: list[int]
) -> tuple[Tensor, Tensor | None, list[Tensor], Sequence[Tensor | None]]:
    """
    Return embeddings, a timm trunk's final features, and maps (B, C, rows, columns) of the layers, in rising order.

    The class token (B, C) of each layer comes last, `None` for a tower without any. The last layer must be among the
    layers: open_clip's ResNet stops at the last one asked for.
    """
    arguments = {"indices": [layer - 1 for layer in layers], "output_fmt": "NCHW"}
    first: list[Tensor | None] = [None] * len(layers)
    if isinstance(visual, TimmModel):
        if has_class_token(visual):
            features, pairs = visual.trunk.forward_intermediates(pixel_values, return_prefix_tokens=True, **arguments)
            maps, first = zip(*((patches, prefix[:, 0]) for patches, prefix in pairs), strict=True)
        else:
            features, maps = visual.trunk.forward_intermediates(pixel_values, **arguments)
        return visual.head(visual.trunk.forward_head(features)), features, list(maps), first
    if has_class_token(visual):
        arguments["output_extra_tokens"] = True
    output = visual.forward_intermediates(pixel_values, **arguments)
    if has_class_token(visual):
        first = [prefix[:, 0] for prefix in output["image_intermediates_prefix"]]
    return output["image_features"], None, output["image_intermediates"], first


def patch_embeddings(visual: nn.Module, features: Tensor | None, final: Tensor, before_last: Tensor) -> Tensor:
    """Make embeddings (B, N, D) from the patches that leave and those that enter the last layer."""
    if isinstance(visual, TimmModel):
        return trunk_patch_embeds(
            visual.trunk, features, final.shape[1], before_last, lambda x: visual.head(visual.trunk.forward_head(x))
        )
    if isinstance(visual, ModifiedResNet):
        return visual.attnpool.c_proj(visual.attnpool.v_proj(final))
    patches = final
    if visual.pool_type == "tok":
        block = visual.transformer.resblocks[-1]
        patches = alone(lambda x: block.ls_1(block.attention(block.ln_1(x))), before_last)
    return visual.ln_post(patches) @ visual.proj


__all__ = ["check_class_token", "encode_layers", "token_shape"]
