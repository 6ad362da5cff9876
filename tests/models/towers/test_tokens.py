"""Image tokens against hooks on modules of transformers and timm, and patch embeddings against their definition."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from preset_files import write_json
from teacher_models import tiny_clip, tiny_metaclip, tiny_siglip, tiny_siglip2
from torch import nn

from hf_clip_kd.models import (
    check_class_token,
    check_patch_embeds,
    encode_images,
    encode_layers,
    encode_patches,
    load_clip,
    token_shape,
)
from hf_clip_kd.models.towers import tokens


def timm_clip(tmp_path, architecture, image_size=32, **model_args):
    return load_clip(write_json(tmp_path / "x.json", architecture, image_size, model_args or None))[0].eval()


def pictures(model, size=3):
    side = model.config.vision_config.image_size
    return torch.randn(size, 3, side, side)


class Outputs:
    """Outputs of modules, by their index, in the order of their run."""

    def __init__(self, *modules):
        self.seen = {}
        for index, module in enumerate(modules):
            module.register_forward_hook(lambda module, args, output, index=index: self.seen.update({index: output}))

    def __getitem__(self, index):
        return self.seen[index][0] if isinstance(self.seen[index], tuple) else self.seen[index]


STOCK = {
    "clip": (lambda: tiny_clip()[0], 1),
    "siglip": (lambda: tiny_siglip()[0], 0),
    "metaclip_2": (tiny_metaclip, 1),
}


@pytest.mark.parametrize(("build", "prefix"), STOCK.values(), ids=STOCK)
def test_tokens_are_the_outputs_of_the_layers(build, prefix):
    model = build()
    depth = model.config.vision_config.num_hidden_layers
    first = getattr(model.vision_model, "pre_layrnorm", model.vision_model.embeddings)
    seen = Outputs(first, *model.vision_model.encoder.layers)
    pixels = pictures(model)
    expected = model.get_image_features(pixels).pooler_output
    for layer in range(-depth - 1, depth + 1):
        embeds, found = encode_images(model, pixels, layer)
        assert torch.equal(embeds, expected)
        assert torch.equal(found, seen[layer % (depth + 1)][:, prefix:]) and found.shape[1] == 16
        assert token_shape(model, layer) == (32, (4, 4))
    embeds, found = encode_images(model, pixels)
    assert torch.equal(embeds, expected) and found is None


def test_tokens_of_timm_towers_are_the_outputs_of_blocks_and_stages(tmp_path):
    vit = timm_clip(tmp_path, "vit_small_patch14_reg4_dinov2", 56, img_size=56, depth=3)
    seen = Outputs(*vit.vision_model.trunk.blocks)
    _, found = encode_images(vit, pictures(vit), -2)
    assert torch.equal(found, seen[1][:, 5:])

    resnet, _ = load_clip("test-resnet")
    trunk = resnet.eval().vision_model.trunk
    seen = Outputs(trunk.layer3, trunk.layer4)
    for layer, module in ((-2, 0), (4, 0), (-1, 1)):
        embeds, found = encode_images(resnet, pictures(resnet), layer)
        assert torch.equal(found, seen[module].flatten(2).mT)
        channels, (rows, columns) = token_shape(resnet, layer)
        assert (channels, rows, columns) == seen[module].shape[1:] and found.shape[1:] == (rows * columns, channels)
    assert token_shape(resnet, -2)[1] != token_shape(resnet, -1)[1]


TOWERS = {"clip": lambda: tiny_clip()[0], "convnet": lambda: load_clip("test-resnet")[0].eval()}


@pytest.mark.parametrize("build", TOWERS.values(), ids=TOWERS)
@pytest.mark.parametrize("patch_embeds", [False, True])
def test_several_layers_are_those_of_single_passes(build, patch_embeds):
    model = build()
    pixels = pictures(model)
    embeds, found, patches = encode_layers(model, pixels, [-2, 2, -1], patch_embeds)
    assert list(found) == [-2, 2, -1] and (patches is None) != patch_embeds
    for layer, several in found.items():
        expected = encode_patches(model, pixels, layer, patch_embeds)
        assert torch.equal(embeds, expected[0]) and torch.equal(several.patches, expected[1])
        assert not patch_embeds or torch.equal(patches, expected[2])
    embeds, found, patches = encode_layers(model, pixels)
    assert found == {} and patches is None and torch.equal(embeds, expected[0])


def test_class_tokens_are_the_first_outputs_of_the_blocks(tmp_path):
    clip, _ = tiny_clip()
    vit = timm_clip(tmp_path, "vit_small_patch14_reg4_dinov2", 56, img_size=56, depth=3)
    for model, blocks, prefix in (
        (clip, clip.vision_model.encoder.layers, 1),
        (vit, vit.vision_model.trunk.blocks, 5),
    ):
        seen, pixels = Outputs(*blocks), pictures(model)
        for patch_embeds in (False, True):
            _, found, _ = encode_layers(model, pixels, [-2, -1], patch_embeds)
            for layer, several in found.items():
                assert torch.equal(several.class_token, seen[len(blocks) + layer][:, 0])
                assert torch.equal(several.patches, seen[len(blocks) + layer][:, prefix:])
        check_class_token(model)


def test_towers_without_class_tokens(tmp_path):
    """A SigLIP pools its patches. A convnet and an XCiT have only patches in their blocks. A register is none."""
    registers = timm_clip(tmp_path, "vit_wee_patch16_reg1_gap_256", 32, img_size=32, depth=2)
    for model in (tiny_siglip()[0], load_clip("test-resnet")[0], load_clip("shapes-xcit")[0], registers):
        assert encode_layers(model.eval(), pictures(model), [-1])[1][-1].class_token is None
        with pytest.raises(ValueError, match="has no class token.*pool their patches.*'summary': 'image_embeds'"):
            check_class_token(model)


@pytest.mark.parametrize("name", ["test-vit", "test-resnet"])
def test_one_forward_pass(name):
    model, _ = load_clip(name)
    calls = []
    tower = model.vision_model
    (tower.trunk.conv1 if hasattr(tower, "trunk") else tower.embeddings).register_forward_hook(
        lambda *_: calls.append(1)
    )
    encode_images(model, pictures(model), -2)
    assert len(calls) == 1
    encode_patches(model, pictures(model), -2)
    assert len(calls) == 2
    encode_layers(model, pictures(model), [-2, -1])
    assert len(calls) == 3


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("name", ["test-vit", "shapes-xcit", "shapes-conv"])
def test_gradient_through_tokens_with_checkpointing(name, reentrant):
    model, _ = load_clip(name)
    pixels = pictures(model, 4)

    def gradients():
        model.zero_grad()
        embeds, found = encode_images(model, pixels, -2)
        (embeds.square().sum() + found.square().sum()).backward()
        return [p.grad.clone() for p in model.vision_model.parameters() if p.grad is not None]

    expected = gradients()
    embeds, _ = encode_images(model, pixels)
    model.zero_grad()
    embeds.square().sum().backward()
    alone = [p.grad for p in model.vision_model.parameters() if p.grad is not None]
    assert any(not torch.allclose(gradient, other) for gradient, other in zip(expected, alone, strict=True))
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    for gradient, other in zip(expected, gradients(), strict=True):
        torch.testing.assert_close(gradient, other)


def test_tokens_of_a_model_with_lora():
    model, _ = tiny_clip()
    pixels = pictures(model)
    expected = encode_images(model, pixels, -2)
    adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj", "v_proj"])).train()
    found = encode_images(adapted, pixels, -2)
    torch.testing.assert_close(found, expected)
    found[1].sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for n, p in adapted.named_parameters() if "lora" in n)
    assert token_shape(adapted, -2) == (32, (4, 4))


@pytest.mark.parametrize("name", ["test-vit", "test-resnet", "shapes-xcit"])
def test_measuring_leaves_the_model_as_it_was(name):
    model, _ = load_clip(name)
    model.text_model.eval()
    modes = [module.training for module in model.modules()]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    random = torch.get_rng_state()
    assert token_shape(model, -1)[0] == model.config.vision_config.hidden_size
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in model.modules()] == modes and True in modes and False in modes
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "layer", "allowed"),
    [
        ("test-vit", 3, "Allowed are 0 to 2 and -1 to -3"),
        ("test-vit", -4, "Allowed are 0 to 2 and -1 to -3"),
        ("test-resnet", 0, "Allowed are 1 to 5 and -1 to -5"),
        ("test-resnet", -6, "Allowed are 1 to 5 and -1 to -5"),
    ],
)
def test_layer_that_is_not_there(name, layer, allowed):
    model, _ = load_clip(name)
    for encode in (encode_images, encode_patches):
        with pytest.raises(
            ValueError, match=f"layer={layer} does not exist in .*CLIPModel.*{allowed}. For what a LLaVA"
        ):
            encode(model, pictures(model), layer)
    with pytest.raises(ValueError, match=allowed):
        token_shape(model, layer)


def test_tokens_without_a_grid(monkeypatch):
    model, _ = load_clip("test-vit")
    monkeypatch.setattr(tokens, "encode_images", lambda *_: (None, torch.zeros(1, 12, 32)))
    with pytest.raises(
        ValueError, match=r"12 tokens at layer=-1 .* neither the grid \(4, 4\) .* nor a square. .*layer=-2"
    ):
        token_shape(model, -1)
    with pytest.raises(ValueError, match="siglip2_vision_model' is unknown.*Use a ViT tower"):
        token_shape(tiny_siglip2()[0], -2)


# ---- dense embeddings ----


@pytest.mark.parametrize("build", [lambda: tiny_clip()[0], tiny_metaclip], ids=["clip", "metaclip_2"])
def test_patch_embeds_of_clip_are_the_value_path_of_maskclip(build):
    model = build()
    last = model.vision_model.encoder.layers[-1].self_attn
    seen = Outputs(last.v_proj)
    pixels = pictures(model)
    embeds, found, patches = encode_patches(model, pixels, -1)
    assert torch.equal(found, encode_images(model, pixels, -1)[1])
    model.get_image_features(pixels)  # now the hook holds the values of the tower's own forward pass
    expected = model.visual_projection(model.vision_model.post_layernorm(last.out_proj(seen[0][:, 1:])))
    torch.testing.assert_close(patches, expected)
    assert patches.shape == (3, 16, 24)
    torch.testing.assert_close(embeds, model.get_image_features(pixels).pooler_output)


def test_patch_embeds_of_siglip_are_its_head_on_one_patch():
    model, _ = tiny_siglip()
    pixels = pictures(model)
    output = model.vision_model(pixels)
    head = model.vision_model.head
    value, bias = head.attention.in_proj_weight[64:], head.attention.in_proj_bias[64:]
    values = head.attention.out_proj(output.last_hidden_state @ value.T + bias)
    expected = values + head.mlp(head.layernorm(values))
    embeds, found, patches = encode_patches(model, pixels)
    torch.testing.assert_close(patches, expected)
    torch.testing.assert_close(embeds, output.pooler_output)
    assert found is None


AVERAGING = {
    "resnet": ("test_resnet", 64, {}),
    "efficientnet": ("efficientnet_b0", 64, {}),
    "swin": ("swin_tiny_patch4_window7_224", 64, {"img_size": 64, "depths": [1, 1, 1, 1]}),
    "levit": ("levit_128s", 224, {}),
}


@pytest.mark.parametrize(("architecture", "size", "arguments"), AVERAGING.values(), ids=AVERAGING)
def test_mean_of_patch_embeds_is_the_embedding_where_the_trunk_averages(architecture, size, arguments, tmp_path):
    model = timm_clip(tmp_path, architecture, size, **arguments)
    pixels = pictures(model)
    embeds, _, patches = encode_patches(model, pixels)
    torch.testing.assert_close(embeds, model.get_image_features(pixels).pooler_output)
    torch.testing.assert_close(patches.mean(dim=1), embeds, rtol=1e-4, atol=1e-5)
    rows, columns = token_shape(model, -1)[1]
    assert patches.shape == (3, rows * columns, 32)


def test_patch_embeds_of_a_convnet_lie_row_by_row():
    model, _ = load_clip("shapes-conv")
    pixels = pictures(model.eval())
    _, _, patches = encode_patches(model, pixels)
    features = model.vision_model.trunk.forward_features(pixels)
    torch.testing.assert_close(patches[:, 1 * 4 + 2], model.visual_projection(features[:, :, 1, 2]))


def test_patch_embeds_of_xcit_are_its_normed_patches():
    model, _ = load_clip("shapes-xcit")
    pixels = pictures(model.eval())
    seen = Outputs(model.vision_model.trunk.norm)
    embeds, _, patches = encode_patches(model, pixels)
    torch.testing.assert_close(patches, model.visual_projection(seen[0][:, 1:]))
    torch.testing.assert_close(embeds, model.visual_projection(seen[0][:, 0]))
    assert patches.shape == (3, 16, 64)


CLASS_TOKEN = {
    "vit": ("vit_tiny_patch16_224", 32, {"img_size": 32, "depth": 2}, 1),
    "layer scale, registers": (
        "vit_small_patch14_reg4_dinov2",
        56,
        {"img_size": 56, "depth": 2, "init_values": 0.5},
        5,
    ),
    "eva": ("eva02_tiny_patch14_224", 56, {"img_size": 56, "depth": 2, "global_pool": "token"}, 1),
}


@pytest.mark.parametrize(("architecture", "size", "arguments", "prefix"), CLASS_TOKEN.values(), ids=CLASS_TOKEN)
def test_patch_embeds_of_timm_vits_follow_the_value_path(architecture, size, arguments, prefix, tmp_path):
    model = timm_clip(tmp_path, architecture, size, **arguments)
    trunk, pixels = model.vision_model.trunk, pictures(model)
    block = trunk.blocks[-1]
    seen = Outputs(block.norm1)
    embeds, _, _ = encode_patches(model, pixels)
    torch.testing.assert_close(embeds, model.get_image_features(pixels).pooler_output)
    attention, normed = block.attn, seen[0][:, prefix:]
    bias = attention.v_bias if attention.qkv.bias is None else attention.qkv.bias.chunk(3)[2]
    value = nn.functional.linear(normed, attention.qkv.weight.chunk(3)[2], bias)
    scale = 0.5 if "init_values" in arguments else 1.0
    expected = model.visual_projection(trunk.norm(scale * attention.proj(attention.norm(value))))
    torch.testing.assert_close(encode_patches(model, pixels)[2], expected)


@pytest.mark.parametrize(
    "build",
    [lambda path: timm_clip(path, "pit_ti_224", 224), lambda path: tiny_siglip2()[0]],
    ids=["pit", "siglip2 naflex"],
)
def test_models_without_patch_embeds(build, tmp_path):
    with pytest.raises(
        ValueError, match="(?s)has no embeddings of single patches. Models that have .* Leave 'patch_text'"
    ):
        check_patch_embeds(build(tmp_path))
