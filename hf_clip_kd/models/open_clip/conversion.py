"""open_clip's own transformers as the stock CLIP towers of transformers, which compute the same.

Other modules import this one only when such a tower is asked for, since open_clip takes seconds.
"""

import torch
from open_clip.model import CLIP
from open_clip.transformer import QuickGELU, ResidualAttentionBlock, TextTransformer, VisionTransformer
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
)


def convert_image_tower(visual: nn.Module) -> CLIPVisionModel:
    """
    Put the same function into another class: all hidden states and the pooled class token are equal.

    Args:
        visual (`nn.Module`): `model.visual` of an open_clip model, in fp32 on the CPU; put into eval mode.

    Raises:
        ValueError: No stock class computes the same. The message is the reason alone, for a caller to complete.
    """
    if not isinstance(visual, VisionTransformer):
        raise ValueError(f"{type(visual).__name__} is its image tower")
    if isinstance(visual.ln_pre, nn.Identity):
        raise ValueError("it has no norm before the first block")
    blocks = visual.transformer.resblocks
    config = CLIPVisionConfig(
        **encoder_sizes(blocks),
        image_size=visual.image_size[0],
        patch_size=visual.patch_size[0],
        layer_norm_eps=visual.ln_pre.eps,
        projection_dim=visual.output_dim,
    )
    tower = CLIPVisionModel(config).eval()
    fill(
        tower,
        {
            "embeddings.class_embedding": visual.class_embedding,
            "embeddings.patch_embedding.weight": visual.conv1.weight,
            "embeddings.position_embedding.weight": visual.positional_embedding,
            **named("pre_layrnorm", visual.ln_pre.weight, visual.ln_pre.bias),
            **named("post_layernorm", visual.ln_post.weight, visual.ln_post.bias),
            **encoder_state(blocks),
        },
    )
    if not same_tokens(visual.eval(), tower):
        raise ValueError("the same weights compute other tokens in CLIPVisionModel")
    return tower


@torch.no_grad()
def convert_image_encoder(visual: nn.Module) -> CLIPVisionModelWithProjection:
    """Do what [`convert_image_tower`] does, with the projection, so that embeddings of images are equal, too."""
    tower = convert_image_tower(visual)
    encoder = CLIPVisionModelWithProjection(tower.config).eval()
    encoder.vision_model = tower
    encoder.visual_projection.weight.copy_(visual.proj.t())
    image = noise(visual)
    if not close(encoder(image).image_embeds, visual(image)):
        raise ValueError("its embedding of an image is not that of the class token")
    return encoder


@torch.no_grad()
def convert_text_encoder(model: nn.Module, eos_token_id: int) -> CLIPTextModelWithProjection:
    """
    Put the same function into another class: the embeddings of all texts that have an end are equal.

    Args:
        model (`nn.Module`): An open_clip model, in fp32 on the CPU; put into eval mode.
        eos_token_id (`int`): The token that ends a text. The tower reads the embedding at its place.

    Raises:
        ValueError: No stock class computes the same, see [`convert_image_tower`].
    """
    # open_clip's CLIP holds the parts of its text tower itself, its other models hold the tower.
    text = model if isinstance(model, CLIP) else model.text
    if not isinstance(text, CLIP | TextTransformer):
        raise ValueError(f"{type(text).__name__} is its text tower")
    if not isinstance(text.text_projection, nn.Parameter):
        raise ValueError("its text projection is no matrix")
    blocks = text.transformer.resblocks
    config = CLIPTextConfig(
        **encoder_sizes(blocks),
        vocab_size=text.token_embedding.num_embeddings,
        max_position_embeddings=len(text.positional_embedding),
        layer_norm_eps=text.ln_final.eps,
        projection_dim=text.text_projection.shape[1],
        eos_token_id=eos_token_id,
    )
    encoder = CLIPTextModelWithProjection(config).eval()
    fill(
        encoder.text_model,
        {
            "embeddings.token_embedding.weight": text.token_embedding.weight,
            "embeddings.position_embedding.weight": text.positional_embedding,
            **named("final_layer_norm", text.ln_final.weight, text.ln_final.bias),
            **encoder_state(blocks),
        },
    )
    encoder.text_projection.weight.copy_(text.text_projection.t())
    if not same_texts(model.eval(), encoder):
        raise ValueError("the same weights compute other embeddings in CLIPTextModel")
    return encoder


def encoder_sizes(blocks: nn.ModuleList) -> dict[str, int | str]:
    """Return the sizes in CLIP's configuration of the blocks, which must be plain ones."""
    if not all(type(block) is ResidualAttentionBlock for block in blocks):
        raise ValueError(f"its blocks are {type(blocks[0]).__name__}")
    attention, mlp = blocks[0].attn, blocks[0].mlp
    if type(mlp.gelu) not in (QuickGELU, nn.GELU):
        raise ValueError(f"its activation is {type(mlp.gelu).__name__}")
    return {
        "hidden_size": attention.embed_dim,
        "intermediate_size": mlp.c_fc.out_features,
        "num_hidden_layers": len(blocks),
        "num_attention_heads": attention.num_heads,
        "hidden_act": "quick_gelu" if isinstance(mlp.gelu, QuickGELU) else "gelu",
    }


def encoder_state(blocks: nn.ModuleList) -> dict[str, torch.Tensor]:
    """
    Name the weights of the blocks as CLIP does.

    open_clip keeps query, key and value in one matrix. A LayerScale is folded into the layer before it.
    """
    state = {}
    for index, block in enumerate(blocks):
        layer = f"encoder.layers.{index}"
        weights, biases = block.attn.in_proj_weight.chunk(3), block.attn.in_proj_bias.chunk(3)
        for part, weight, bias in zip("qkv", weights, biases, strict=True):
            state |= named(f"{layer}.self_attn.{part}_proj", weight, bias)
        state |= named(f"{layer}.self_attn.out_proj", *scaled(block.attn.out_proj, block.ls_1))
        state |= named(f"{layer}.layer_norm1", block.ln_1.weight, block.ln_1.bias)
        state |= named(f"{layer}.layer_norm2", block.ln_2.weight, block.ln_2.bias)
        state |= named(f"{layer}.mlp.fc1", block.mlp.c_fc.weight, block.mlp.c_fc.bias)
        state |= named(f"{layer}.mlp.fc2", *scaled(block.mlp.c_proj, block.ls_2))
    return state


def named(name: str, weight: torch.Tensor, bias: torch.Tensor) -> dict[str, torch.Tensor]:
    return {f"{name}.weight": weight, f"{name}.bias": bias}


def scaled(linear: nn.Linear, layer_scale: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weight and bias of a layer, with the LayerScale behind it if there is one."""
    gamma = getattr(layer_scale, "gamma", None)
    return (linear.weight, linear.bias) if gamma is None else (linear.weight * gamma[:, None], linear.bias * gamma)


def fill(tower: nn.Module, state: dict[str, torch.Tensor]) -> None:
    try:
        tower.load_state_dict({key: value.detach() for key, value in state.items()})
    except RuntimeError as error:  # An attention pool has a norm of another width.
        raise ValueError(str(error).strip().split("\n")[-1].strip()) from error


@torch.no_grad()
def same_tokens(visual: VisionTransformer, tower: CLIPVisionModel) -> bool:
    """Tell if both compute the same tokens of an image of noise at every layer, up to rounding."""
    image = noise(visual)
    _, expected = visual.transformer.forward_intermediates(visual._embeds(image))
    states = tower(image, output_hidden_states=True).hidden_states[1:]
    return all(close(a, b) for a, b in zip(states, expected, strict=True))


def same_texts(model: nn.Module, encoder: CLIPTextModelWithProjection) -> bool:
    """Tell if both compute the same embeddings of two texts of random tokens, a full one and a short one."""
    end, length = encoder.config.eos_token_id, encoder.config.max_position_embeddings
    ids = torch.randint(end, (2, length), generator=torch.Generator().manual_seed(0))
    ids[0, -1] = ids[1, length // 2] = end
    ids[1, length // 2 + 1 :] = 0
    return close(encoder(ids).text_embeds, model.encode_text(ids))


def noise(visual: VisionTransformer) -> torch.Tensor:
    return torch.randn(1, 3, *visual.image_size, generator=torch.Generator().manual_seed(0))


def close(values: torch.Tensor, expected: torch.Tensor) -> bool:
    return torch.allclose(values, expected, rtol=1e-4, atol=1e-4 * expected.std())


__all__ = ["convert_image_encoder", "convert_image_tower", "convert_text_encoder"]
