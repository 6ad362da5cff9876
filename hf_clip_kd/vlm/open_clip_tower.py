"""Towers from open_clip: its own ViT as a stock [`~transformers.CLIPVisionModel`], a timm trunk as [`TimmVisionModel`].

Imported only when such a tower is asked for, as open_clip is then.
"""

import torch
from open_clip.timm_model import TimmModel
from open_clip.transformer import QuickGELU, ResidualAttentionBlock, VisionTransformer
from torch import nn
from transformers import BaseImageProcessor, CLIPVisionConfig, CLIPVisionModel, PreTrainedModel

from ..open_clip_teacher import OpenClipImageProcessor, load_open_clip
from .timm_tower import same_features, tower_of_trunk


def load_open_clip_tower(name: str) -> tuple[PreTrainedModel, BaseImageProcessor]:
    """
    The image tower of an open_clip model, in fp32, and its preprocessing.

    Args:
        name (`str`): As of a teacher: `open_clip:ARCH/TAG`, `open_clip:ARCH//FILE`, `open_clip:hf-hub:...`,
            `open_clip:local-dir:...`.

    Raises:
        ValueError: There is no such model, or no class of transformers or timm holds its tower exactly.
    """
    # Any object in its place saves the tokenizer from being looked for.
    model, _ = load_open_clip(name, tokenizer="none")
    visual = model.visual
    image_processor = OpenClipImageProcessor.from_preprocess_cfg(visual.preprocess_cfg)
    if isinstance(visual, TimmModel):
        return convert_timm(visual, name), image_processor
    if isinstance(visual, VisionTransformer):
        return convert_vit(visual, name), image_processor
    raise not_convertible(name, f"{type(visual).__name__} is its image tower")


def not_convertible(name: str, reason: str) -> ValueError:
    return ValueError(
        f"The tower of {name!r} cannot be put into a LLaVA: {reason}; allowed are open_clip's ViTs with a class token, a "
        "norm before the first block and plain attention, and its timm towers; take such a model, for example "
        "'open_clip:ViT-B-16/openai'."
    )


def convert_timm(visual: TimmModel, name: str) -> PreTrainedModel:
    trunk, image_size = visual.trunk, visual.image_size[0]
    architecture, weights = trunk.pretrained_cfg["architecture"], trunk.state_dict()
    try:
        tower = tower_of_trunk(architecture, weights, image_size, origin=name)
    except ValueError:
        # open_clip may have replaced the pooling, and with it weights.
        pooling = {"global_pool": trunk.global_pool}
        tower = tower_of_trunk(architecture, weights, image_size, origin=name, model_args=pooling)
    if not same_features(trunk, tower.trunk, image_size):
        raise not_convertible(name, f"timm builds {architecture} differently")
    return tower


def convert_vit(visual: VisionTransformer, name: str) -> CLIPVisionModel:
    """
    The same function in another class: all hidden states and the pooled class token are equal.

    Key names: open_clip keeps query, key and value in one matrix; a LayerScale is folded into the layer before it.
    """
    blocks = visual.transformer.resblocks
    if isinstance(visual.ln_pre, nn.Identity):
        raise not_convertible(name, "it has no norm before the first block")
    if not all(type(block) is ResidualAttentionBlock for block in blocks):
        raise not_convertible(name, f"its blocks are {type(blocks[0]).__name__}")
    activation = blocks[0].mlp.gelu
    if type(activation) not in (QuickGELU, nn.GELU):
        raise not_convertible(name, f"its activation is {type(activation).__name__}")
    config = CLIPVisionConfig(
        hidden_size=visual.conv1.out_channels,
        intermediate_size=blocks[0].mlp.c_fc.out_features,
        num_hidden_layers=len(blocks),
        num_attention_heads=blocks[0].attn.num_heads,
        image_size=visual.image_size[0],
        patch_size=visual.patch_size[0],
        hidden_act="quick_gelu" if isinstance(activation, QuickGELU) else "gelu",
        layer_norm_eps=visual.ln_pre.eps,
        projection_dim=visual.output_dim,
    )
    tower = CLIPVisionModel(config).eval()
    try:
        tower.load_state_dict(clip_state_dict(visual))
    except RuntimeError as error:  # an attention pool has a norm of another width
        raise not_convertible(name, str(error).strip().split("\n")[-1].strip()) from error
    if not same_tokens(visual, tower):
        raise not_convertible(name, "the same weights compute other tokens in CLIPVisionModel")
    return tower


def clip_state_dict(visual: VisionTransformer) -> dict[str, torch.Tensor]:
    state = {
        "embeddings.class_embedding": visual.class_embedding,
        "embeddings.patch_embedding.weight": visual.conv1.weight,
        "embeddings.position_embedding.weight": visual.positional_embedding,
        **named("pre_layrnorm", visual.ln_pre.weight, visual.ln_pre.bias),
        **named("post_layernorm", visual.ln_post.weight, visual.ln_post.bias),
    }
    for index, block in enumerate(visual.transformer.resblocks):
        layer = f"encoder.layers.{index}"
        weights, biases = block.attn.in_proj_weight.chunk(3), block.attn.in_proj_bias.chunk(3)
        for part, weight, bias in zip("qkv", weights, biases, strict=True):
            state |= named(f"{layer}.self_attn.{part}_proj", weight, bias)
        state |= named(f"{layer}.self_attn.out_proj", *scaled(block.attn.out_proj, block.ls_1))
        state |= named(f"{layer}.layer_norm1", block.ln_1.weight, block.ln_1.bias)
        state |= named(f"{layer}.layer_norm2", block.ln_2.weight, block.ln_2.bias)
        state |= named(f"{layer}.mlp.fc1", block.mlp.c_fc.weight, block.mlp.c_fc.bias)
        state |= named(f"{layer}.mlp.fc2", *scaled(block.mlp.c_proj, block.ls_2))
    return {key: value.detach() for key, value in state.items()}


def named(name: str, weight: torch.Tensor, bias: torch.Tensor) -> dict[str, torch.Tensor]:
    return {f"{name}.weight": weight, f"{name}.bias": bias}


def scaled(linear: nn.Linear, layer_scale: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of a layer with the LayerScale behind it, if there is one."""
    gamma = getattr(layer_scale, "gamma", None)
    return (linear.weight, linear.bias) if gamma is None else (linear.weight * gamma[:, None], linear.bias * gamma)


@torch.no_grad()
def same_tokens(visual: VisionTransformer, tower: CLIPVisionModel) -> bool:
    """Whether both compute the same tokens of an image of noise at every layer, up to rounding."""
    image = torch.randn(1, 3, *visual.image_size, generator=torch.Generator().manual_seed(0))
    visual.eval()
    _, expected = visual.transformer.forward_intermediates(visual._embeds(image))
    states = tower(image, output_hidden_states=True).hidden_states[1:]
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-4 * b.std()) for a, b in zip(states, expected, strict=True))


__all__ = ["load_open_clip_tower"]
