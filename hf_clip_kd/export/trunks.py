"""timm's vision transformers as the stock towers of transformers that compute the same."""

import torch
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel, Dinov2Config, Dinov2Model
from transformers.activations import ACT2FN

from ..models import TimmVisionModel


def convert_trunk(tower: TimmVisionModel) -> CLIPVisionModel | Dinov2Model:
    """
    Return a stock class with the same hidden states and pooled class token, up to rounding.

    A trunk with a norm before its first block becomes a [`~transformers.CLIPVisionModel`] (LayerScale and the bias of
    the patches are folded into the weights), one without it a [`~transformers.Dinov2Model`].

    Args:
        tower ([`TimmVisionModel`]): A tower in fp32 on the CPU; put into eval mode.

    Raises:
        ValueError: No stock class computes what it computes; the message is the reason alone, for a caller to
            complete.
    """
    trunk = tower.trunk
    if not isinstance(trunk, VisionTransformer):
        raise ValueError(f"{type(trunk).__name__} is its trunk")
    if trunk.cls_token is None or trunk.num_prefix_tokens != 1:
        raise ValueError("it has no class token, or register tokens beside it")
    if trunk.global_pool != "token":
        raise ValueError(f"it pools its patches ({trunk.global_pool!r}) instead of taking the class token")
    if not all(type(block) is Block for block in trunk.blocks):
        raise ValueError(f"its blocks are {type(trunk.blocks[0]).__name__}")
    convert = to_dinov2 if isinstance(trunk.norm_pre, nn.Identity) else to_clip
    try:
        stock = convert(tower)
    except RuntimeError as error:  # A norm or a layer is missing in the stock class.
        raise ValueError(str(error).strip().split("\n")[-1].strip()) from error
    if not same_states(tower.eval(), stock):
        raise ValueError(f"the same weights compute other tokens in {type(stock).__name__}")
    return stock


def to_clip(tower: TimmVisionModel) -> CLIPVisionModel:
    trunk = tower.trunk
    config = CLIPVisionConfig(
        **sizes(tower),
        intermediate_size=trunk.blocks[0].mlp.fc1.out_features,
        layer_norm_eps=trunk.norm_pre.eps,
    )
    class_token, positions = prefix_and_positions(trunk)
    if trunk.patch_embed.proj.bias is not None:
        positions = torch.cat([positions[:1], positions[1:] + trunk.patch_embed.proj.bias])
    state = {
        "embeddings.class_embedding": class_token,
        "embeddings.patch_embedding.weight": trunk.patch_embed.proj.weight,
        "embeddings.position_embedding.weight": positions,
        **norm("pre_layrnorm", trunk.norm_pre),
        **norm("post_layernorm", trunk.norm),
    }
    for index, block in enumerate(trunk.blocks):
        state |= encoder_block(f"encoder.layers.{index}", block, "self_attn", "self_attn.out_proj", "layer_norm")
    return filled(CLIPVisionModel(config), state)


def to_dinov2(tower: TimmVisionModel) -> Dinov2Model:
    trunk = tower.trunk
    width, inner = trunk.embed_dim, trunk.blocks[0].mlp.fc1.out_features
    if inner % width:
        raise ValueError(f"its blocks widen {width} to {inner}, no whole multiple")
    # No model of timm has a token for masked patches.
    config = Dinov2Config(
        **sizes(tower), mlp_ratio=inner // width, layer_norm_eps=trunk.norm.eps, use_mask_token=False
    )
    class_token, positions = prefix_and_positions(trunk)
    bias = trunk.patch_embed.proj.bias
    state = {
        "embeddings.cls_token": class_token[None, None],
        "embeddings.position_embeddings": positions[None],
        **linear("embeddings.patch_embeddings.projection", trunk.patch_embed.proj.weight, bias),
        **norm("layernorm", trunk.norm),
    }
    for index, block in enumerate(trunk.blocks):
        layer = f"encoder.layer.{index}"
        state |= encoder_block(layer, block, "attention", "attention.o_proj", "norm")
        state |= {f"{layer}.layer_scale{part}.lambda1": torch.ones(width) for part in (1, 2)}
    return filled(Dinov2Model(config), state)


def encoder_block(layer: str, block, attention: str, out: str, norms: str) -> dict[str, torch.Tensor]:
    """Return the weights of timm's block under the names of a class of transformers, its layer scales folded in."""
    return {
        **query_key_value(f"{layer}.{attention}", block.attn),
        **linear(f"{layer}.{out}", *scaled(block.attn.proj, block.ls1)),
        **linear(f"{layer}.mlp.fc1", block.mlp.fc1.weight, block.mlp.fc1.bias),
        **linear(f"{layer}.mlp.fc2", *scaled(block.mlp.fc2, block.ls2)),
        **norm(f"{layer}.{norms}1", block.norm1),
        **norm(f"{layer}.{norms}2", block.norm2),
    }


def sizes(tower: TimmVisionModel) -> dict[str, int | str]:
    """Return the arguments that the configurations of both stock classes share."""
    trunk = tower.trunk
    return {
        "hidden_size": trunk.embed_dim,
        "num_hidden_layers": len(trunk.blocks),
        "num_attention_heads": trunk.blocks[0].attn.num_heads,
        "image_size": tower.config.image_size,
        "patch_size": trunk.patch_embed.patch_size[0],
        "num_channels": tower.config.num_channels,
        "hidden_act": activation(trunk.blocks[0].mlp.act),
    }


def activation(act: nn.Module) -> str:
    """Return the name in transformers of an activation, found by the values it computes."""
    probe = torch.linspace(-4, 4, 33)
    for name in ("gelu", "quick_gelu", "gelu_pytorch_tanh", "silu", "relu"):
        if torch.allclose(ACT2FN[name](probe), act(probe.clone()), atol=1e-6):
            return name
    raise ValueError(f"its activation is {type(act).__name__}")


def prefix_and_positions(trunk: VisionTransformer) -> tuple[torch.Tensor, torch.Tensor]:
    """Return class token (width,) and positions (1 + patches, width); the token may have no position of its own."""
    class_token = trunk.cls_token[0, 0]
    patches = trunk.patch_embed.num_patches
    positions = class_token.new_zeros(patches, len(class_token)) if trunk.pos_embed is None else trunk.pos_embed[0]
    if len(positions) == patches:
        positions = torch.cat([torch.zeros_like(positions[:1]), positions])
    return class_token, positions


def query_key_value(name: str, attention: nn.Module) -> dict[str, torch.Tensor]:
    """Split query, key and value, which timm keeps in one matrix."""
    biases = (None,) * 3 if attention.qkv.bias is None else attention.qkv.bias.chunk(3)
    state = {}
    for part, weight, bias in zip("qkv", attention.qkv.weight.chunk(3), biases, strict=True):
        state |= linear(f"{name}.{part}_proj", weight, bias)
    return state


def scaled(layer: nn.Linear, layer_scale: nn.Module) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return weight and bias of a layer, with the LayerScale behind it folded in if there is one."""
    gamma = getattr(layer_scale, "gamma", None)
    if gamma is None:
        return layer.weight, layer.bias
    return layer.weight * gamma[:, None], None if layer.bias is None else layer.bias * gamma


def linear(name: str, weight: torch.Tensor, bias: torch.Tensor | None) -> dict[str, torch.Tensor]:
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    return {f"{name}.weight": weight, f"{name}.bias": bias}


def norm(name: str, module: nn.Module) -> dict[str, torch.Tensor]:
    return {f"{name}.{key}": value for key, value in module.state_dict().items()}


def filled(stock, state: dict[str, torch.Tensor]):
    stock.load_state_dict({key: value.detach().clone() for key, value in state.items()})
    return stock.eval()


@torch.no_grad()
def same_states(tower: TimmVisionModel, stock: CLIPVisionModel | Dinov2Model) -> bool:
    """Compare the tokens at every layer and the pooled feature of an image of noise."""
    side = tower.config.image_size
    image = torch.randn(1, tower.config.num_channels, side, side, generator=torch.Generator().manual_seed(0))
    expected, found = (model(image, output_hidden_states=True) for model in (tower, stock))
    pairs = [(expected.pooler_output, found.pooler_output)]
    # Entry 0, the embeddings, is None in ours.
    pairs += zip(expected.hidden_states[1:], found.hidden_states[1:], strict=True)
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-4 * float(a.std())) for a, b in pairs)


__all__ = ["convert_trunk"]
