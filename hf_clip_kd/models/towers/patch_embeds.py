"""Patch embeddings: each patch of an image alone in the joint space of a dual encoder.

All towers use the same rule: the head embeds the patch as if it were the image's only token.
Attention over one token returns its value. For a tower that reads a class token, this is the value path of MaskCLIP.
Pooling by averaging returns the token itself.
"""

from collections.abc import Callable, Sequence

import torch
from timm.models.eva import EvaBlock
from timm.models.vision_transformer import Block
from torch import nn
from transformers import PreTrainedModel

from ..timm_clip.configuration_timm_clip import TimmVisionConfig
from ..timm_clip.levels import to_tokens
from .tokens import LayerTokens, check_layer, describe, image_output, patches_of, pooled, tokens_at

READS_CLASS_TOKEN = ("clip", "metaclip_2")  # Types of transformers models.
POOLS_BY_ATTENTION = ("siglip",)
ROWS = 16384  # Number of one-token sequences at once. Fused attention kernels limit it.


def encode_patches(
    model: PreTrainedModel, pixel_values: torch.Tensor, layer: int | None = None, patch_embeds: bool = True
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """
    Encode images as [`encode_images`] does, and each patch in the same forward pass.

    - CLIP, MetaCLIP 2 and ViTs of timm that read a class token: the MaskCLIP embedding
      (https://huggingface.co/papers/2112.01071). It is the value path of the last attention, the final norm and the
      projection.
    - SigLIP: the attention-pooling head over this patch alone.
    - Trunks of timm that pool by averaging: their head over this patch alone. If the head is linear, the mean over the
      patches is the embedding of the image.
    - XCiT and CaiT: the patch after the final norm, projected. Their class attention has its own weights for patches,
      which are not used here.

    Args:
        model ([`~transformers.PreTrainedModel`]), pixel_values, layer: Arguments of [`encode_images`].
        patch_embeds (`bool`, *optional*, defaults to `True`): `False` does not compute patch embeddings.

    Returns:
        `tuple`:
        - embeddings (B, D);
        - tokens (B, N, C) at `layer`, or `None`;
        - patch embeddings (B, P, D), not normalised, on the grid of the last layer, row by row, or `None`.

    Raises:
        ValueError: as in [`encode_images`], or if the model has no patch embeddings.
    """
    layers = () if layer is None else (layer,)
    embeds, found, patches = encode_layers(model, pixel_values, layers, patch_embeds)
    return embeds, found[layer].patches if layers else None, patches


def encode_layers(
    model: PreTrainedModel, pixel_values: torch.Tensor, layers: Sequence[int] = (), patch_embeds: bool = False
) -> tuple[torch.Tensor, dict[int, LayerTokens], torch.Tensor | None]:
    """
    Do what [`encode_patches`] does for any number of layers, in one forward pass.

    Args:
        model ([`~transformers.PreTrainedModel`]), pixel_values: Arguments of [`encode_patches`].
        layers (`Sequence[int]`, *optional*): Entries of the image tower's `hidden_states`.
        patch_embeds (`bool`, *optional*, defaults to `False`): `True` also computes patch embeddings.

    Returns:
        `tuple`: embeddings (B, D), the [`LayerTokens`] of each layer, and patch embeddings (B, P, D) or `None`.

    Raises:
        ValueError: as in [`encode_patches`].
    """
    if not patch_embeds and not layers:
        return pooled(model.get_image_features(pixel_values=pixel_values)), {}, None
    if not patch_embeds:
        output = image_output(model, pixel_values, *layers)
        return output.pooler_output, {layer: tokens_at(model, output.hidden_states[layer]) for layer in layers}, None
    check_patch_embeds(model)
    if isinstance(model.config.vision_config, TimmVisionConfig):
        return encode_with_timm(model, pixel_values, layers)
    output = image_output(model, pixel_values, -2, *layers)
    if model.config.model_type in POOLS_BY_ATTENTION:
        patches = alone(model.vision_model.head, output.last_hidden_state)
    else:
        last = model.vision_model.encoder.layers[-1]
        values = alone(lambda x: last.self_attn(last.layer_norm1(x))[0], patches_of(model, output.hidden_states[-2]))
        patches = model.visual_projection(model.vision_model.post_layernorm(values))
    return output.pooler_output, {layer: tokens_at(model, output.hidden_states[layer]) for layer in layers}, patches


def check_patch_embeds(model: PreTrainedModel) -> None:
    """
    Check that [`encode_patches`] works with the model.

    Raises:
        ValueError: if the model has no patch embeddings.
    """
    if isinstance(model.config.vision_config, TimmVisionConfig):
        can = not reads_class_token(model.vision_model.trunk) or has_value_path(model.vision_model.trunk)
    else:
        can = model.config.model_type in READS_CLASS_TOKEN + POOLS_BY_ATTENTION
    if not can:
        raise no_patch_embeds(describe(model))


def no_patch_embeds(tower: str) -> ValueError:
    return ValueError(
        f"{tower} has no embeddings of single patches. Models that have them are CLIP, MetaCLIP 2 and SigLIP of "
        "transformers, CLIP's ViTs and ResNets of open_clip, and towers of timm that pool by averaging or attention "
        "or are a VisionTransformer, EVA, XCiT or CaiT. Leave 'patch_text' out of `losses`, or take one of these."
    )


def encode_with_timm(model: PreTrainedModel, pixel_values: torch.Tensor, layers: Sequence[int]):
    """Run [`encode_layers`] for a [`TimmCLIPModel`], with patch embeddings."""
    tower = model.vision_model
    trunk, prefix = tower.trunk, tower.config.num_prefix_tokens
    wanted = [-2, *layers] if reads_class_token(trunk) else list(layers)
    for index in wanted:
        check_layer(model, index)
    features, states = tower._run_trunk(pixel_values.to(tower.dtype), tower._levels(wanted))
    depth = tower.last_level

    def head(features: torch.Tensor) -> torch.Tensor:
        return model.visual_projection(trunk.forward_head(features, pre_logits=True))

    count = states[depth].shape[1] - prefix
    before_last = states[depth - 1][:, prefix:] if depth - 1 in states else None
    patches = trunk_patch_embeds(trunk, features, count, before_last, head)
    return head(features), {layer: tokens_at(model, states[layer % (depth + 1)]) for layer in layers}, patches


def trunk_patch_embeds(
    trunk: nn.Module,
    features: torch.Tensor,
    count: int,
    before_last: torch.Tensor | None,
    head: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """
    Compute patch embeddings from the features of a timm trunk.

    Args:
        trunk (`nn.Module`): Model of timm.
        features (`torch.Tensor`): Maps or tokens that its `forward_features` returned.
        count (`int`): Number P of patches among them.
        before_last (`torch.Tensor` of shape `(B, P, C)`, *optional*): Patches that enter the last block. Only a trunk
            that reads a class token needs them.
        head (`Callable`): Function from `features` to embeddings (B, D).

    Returns:
        `torch.Tensor` of shape `(B, P, D)`.
    """
    if features.ndim == 4:
        layout = str(getattr(trunk, "output_fmt", "NCHW"))
        shape = (-1, 1, 1, features.shape[-1]) if layout == "NHWC" else (-1, features.shape[1], 1, 1)
        return alone(lambda x: head(x.reshape(shape)), to_tokens(features, layout))
    # The patch also takes the places of the prefix tokens. A head skips these places or reads only them.
    prefix = features.shape[1] - count
    if not reads_class_token(trunk):
        return alone(lambda x: head(x.expand(-1, prefix + 1, -1)), features[:, prefix:])
    return alone(lambda x: head(trunk.norm(value(trunk.blocks[-1], x)).expand(-1, prefix + 1, -1)), before_last)


def alone(function: Callable[[torch.Tensor], torch.Tensor], tokens: torch.Tensor) -> torch.Tensor:
    """Apply `function` to each of the tokens (B, N, C) alone and return (B, N, D).

    `function` maps sequences (rows, 1, C) to (rows, ..., D).
    """
    rows = tokens.reshape(-1, 1, tokens.shape[-1])
    return torch.cat([function(part) for part in rows.split(ROWS)]).reshape(*tokens.shape[:2], -1)


def reads_class_token(trunk: nn.Module) -> bool:
    """Return whether a timm trunk returns its class token, and the token reads the patches in the last block."""
    class_attention = hasattr(trunk, "cls_attn_blocks") or hasattr(trunk, "blocks_token_only")  # XCiT, CaiT
    return getattr(trunk, "global_pool", None) == "token" and not class_attention


def has_value_path(trunk: nn.Module) -> bool:
    return hasattr(trunk, "blocks") and type(trunk.blocks[-1]) in (Block, EvaBlock)


def value(block: Block | EvaBlock, token: torch.Tensor) -> torch.Tensor:
    """Compute the output of a block's attention for tokens that attend only to themselves."""
    attended = block.attn(block.norm1(token))
    if isinstance(block, Block):
        return block.ls1(attended)
    return attended if block.gamma_1 is None else block.gamma_1 * attended


__all__ = ["check_patch_embeds", "encode_layers", "encode_patches"]
