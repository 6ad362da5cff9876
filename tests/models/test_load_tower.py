"""`load_tower`: any name of an image tower gives this tower, with its own weights, or an error with the reason."""

import json

import open_clip
import pytest
import timm
import torch
from open_clip.transform import image_transform_v2
from safetensors.torch import save_file, save_model
from teacher_models import tiny_clip, tiny_siglip
from torch import nn
from transformers import (
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    SiglipVisionModel,
    ViTConfig,
    ViTModel,
)
from vlm_parts import SIDE, image_processor, language_model, picture, timm_tower

from hf_clip_kd.models import TimmVisionModel, load_clip
from hf_clip_kd.models.load_tower import load_tower
from hf_clip_kd.models.towers.checksum import tower_checksum
from hf_clip_kd.vlm.image_tokens import ImageTokens, measure_image_tokens

VIT = {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16}
TEXT = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL |= {"image_size": 32, "patch_size": 8}


def open_clip_model(tmp_path, vision, quick_gelu=False):
    """(model, name): an open_clip model with random weights in a file."""
    name = f"test-{tmp_path.name}"
    config = {"embed_dim": 16, "quick_gelu": quick_gelu, "vision_cfg": vision, "text_cfg": TEXT}
    (tmp_path / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / f"{name}.json")
    model = open_clip.create_model(name).eval()
    with torch.no_grad():  # LayerScale and norms start as constants
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    save_model(model, str(tmp_path / "checkpoint.safetensors"))
    return model, f"open_clip:{name}/{tmp_path}/checkpoint.safetensors"


@pytest.mark.parametrize("kind", ["gelu", "quick_gelu", "layer_scale"])
def test_open_clip_vit_becomes_an_exact_clip_vision_model(kind, tmp_path):
    vision = VIT | ({"ls_init_value": 0.5} if kind == "layer_scale" else {})
    model, name = open_clip_model(tmp_path, vision, quick_gelu=kind == "quick_gelu")
    tower, processor = load_tower(name)
    assert type(tower) is CLIPVisionModel and not tower.training
    image = picture()
    pixels = processor([image], return_tensors="pt")["pixel_values"]
    assert torch.equal(
        pixels[0], image_transform_v2(open_clip.transform.PreprocessCfg(size=32), is_train=False)(image)
    )
    with torch.no_grad():
        output = tower(pixels, output_hidden_states=True)
        torch.testing.assert_close(output.pooler_output @ model.visual.proj, model.visual(pixels), rtol=0, atol=1e-5)
        outputs = []
        for block in model.visual.transformer.resblocks:
            block.register_forward_hook(lambda module, args, result: outputs.append(result))
        model.visual(pixels)
    for found, expected in zip(output.hidden_states[1:], outputs, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("trunk", "image_size", "pool"), [("test_convnext", 64, ""), ("test_vit", 160, "avg"), ("test_vit3", 160, "map")]
)
def test_open_clip_timm_tower_keeps_its_trunk(trunk, image_size, pool, tmp_path):
    vision = {"image_size": image_size, "timm_model_name": trunk, "timm_pool": pool, "timm_proj": "linear"}
    model, name = open_clip_model(tmp_path, vision)
    tower, _ = load_tower(name)
    assert type(tower) is TimmVisionModel and tower.config.architecture == trunk
    pixels = torch.randn(1, 3, image_size, image_size)
    assert torch.equal(tower.trunk.forward_features(pixels), model.visual.trunk.forward_features(pixels))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"no_ln_pre": True}, "no norm before the first block"),
        ({"attentional_pool": True, "attn_pooler_heads": 4}, "post_layernorm"),
        ({"block_type": "custom", "qk_norm": True}, "CustomResidualAttentionBlock"),
        ({"layers": [1, 1, 1, 1], "width": 16}, "ModifiedResNet"),
    ],
)
def test_open_clip_tower_that_no_stock_class_holds(change, reason, tmp_path):
    _, name = open_clip_model(tmp_path, VIT | change)
    with pytest.raises(ValueError, match=f"cannot be put into a LLaVA.*{reason}"):
        load_tower(name)


@pytest.mark.parametrize("architecture", ["test_resnet", "test_vit", "levit_128s", "mobilenetv3_small_050"])
def test_timm_checkpoint(architecture, tmp_path):
    model = timm.create_model(architecture).eval()
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    tower, processor = load_tower(f"timm:{architecture}/{tmp_path}/weights.safetensors")
    config = timm.data.resolve_model_data_config(model)
    pixels = processor([picture(300, 300)], return_tensors="pt")["pixel_values"]
    # Pillow resizes in both; timm may round the margin of the crop the other way.
    expected = timm.data.create_transform(**config)(picture(300, 300))
    assert pixels.shape[1:] == expected.shape == tuple(config["input_size"])
    assert (pixels[0] - expected).abs().mean() < 0.05
    assert torch.equal(tower.trunk.forward_features(pixels), model.forward_features(pixels))

    weights = model.state_dict()
    for broken in (dict(list(weights.items())[1:]), weights | {"more": torch.zeros(1)}):
        save_file(broken, tmp_path / "broken.safetensors")
        with pytest.raises(ValueError, match="1 tensors are missing, left over"):
            load_tower(f"timm:{architecture}//{tmp_path}/broken.safetensors")


def test_timm_tower_that_is_not_there(tmp_path):
    (tmp_path / "x.pt").touch()
    (tmp_path / "x.safetensors").write_text("nothing")
    for name, message in [
        ("timm:resnet18", "weights .* could not be had .*safetensors"),  # no network here
        ("resnet18", "the tower 'timm:resnet18' could not be had"),
        ("timm:resnet_18", "names no model of timm.*resnet18"),
        ("timm:resnet18.nothing", "Invalid pretrained tag"),
        (f"timm:resnet18/{tmp_path}/x.pt", "no .safetensors file"),
        (f"timm:resnet18/{tmp_path}/y.safetensors", "no .safetensors file"),
        (f"timm:resnet18/{tmp_path}/x.safetensors", "is no safetensors file"),
    ]:
        with pytest.raises(ValueError, match=message):
            load_tower(name)


def save_vision(folder, kind):
    """(tower in the folder, the class it must come back as)"""
    processor = image_processor(32)
    if kind == "clip":
        model, processor = tiny_clip()
        tower, expected = model.vision_model, CLIPVisionModel
    elif kind == "siglip":
        model, processor = tiny_siglip()
        tower, expected = model.vision_model, SiglipVisionModel
    elif kind == "student":
        model, processor = load_clip("shapes-conv")
        tower, expected = model.vision_model, TimmVisionModel
    else:
        model = tower = {
            "clip_vision_model": lambda: tiny_clip()[0].vision_model,
            "siglip_vision_model": lambda: tiny_siglip()[0].vision_model,
            "timm_clip_vision": timm_tower,
            "dinov2": lambda: Dinov2Model(Dinov2Config(**SMALL)),
            "vit": lambda: ViTModel(ViTConfig(**SMALL)),
        }[kind]()
        expected = type(model)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return tower, expected


@pytest.mark.parametrize(
    "kind",
    ["clip", "siglip", "student", "clip_vision_model", "siglip_vision_model", "timm_clip_vision", "dinov2", "vit"],
)
def test_folder_is_what_its_configuration_says(kind, tmp_path):
    folder = tmp_path / ("siglip-vit" if "clip" in kind and "siglip" not in kind else "openai-clip")  # misleading
    tower, expected = save_vision(folder, kind)
    loaded, processor = load_tower(folder)
    assert type(loaded) is expected and tower_checksum(loaded) == tower_checksum(tower)
    assert processor([picture()], return_tensors="pt")["pixel_values"].ndim == 4


def test_objects_and_presets():
    dual, _ = tiny_clip()
    assert load_tower(dual) == (dual.vision_model, None)
    assert load_tower(dual.vision_model) == (dual.vision_model, None)
    tower, processor = load_tower("shapes-conv")
    assert type(tower) is TimmVisionModel and processor.crop_size["height"] == 32


def test_folder_that_holds_no_complete_tower(tmp_path):
    causal, tokenizer = language_model()
    causal.save_pretrained(tmp_path / "text")
    with pytest.raises(ValueError, match="Qwen2Model, which is neither a dual encoder nor a vision model"):
        load_tower(tmp_path / "text")

    dual, processor = tiny_clip()
    weights = dual.state_dict()
    del weights["vision_model.encoder.layers.1.mlp.fc1.bias"]
    dual.save_pretrained(tmp_path / "clip", state_dict=weights)
    processor.save_pretrained(tmp_path / "clip")
    with pytest.raises(ValueError, match="lack 1 tensors of CLIPVisionModel .*fc1.bias"):
        load_tower(tmp_path / "clip")

    vit = ViTModel(ViTConfig(**SMALL))
    poolerless = {key: value for key, value in vit.state_dict().items() if not key.startswith("pooler.")}
    image_processor().save_pretrained(tmp_path / "vit")
    vit.save_pretrained(tmp_path / "vit", state_dict=poolerless)
    assert load_tower(tmp_path / "vit")[0].pooler is None
    del poolerless["layernorm.bias"]
    vit.save_pretrained(tmp_path / "vit", state_dict=poolerless)
    with pytest.raises(ValueError, match="lack 3 tensors of ViTModel .*layernorm.bias"):
        load_tower(tmp_path / "vit")

    dual.save_pretrained(tmp_path / "bare")
    with pytest.raises(ValueError, match="no image processor"):
        load_tower(tmp_path / "bare")

    (tmp_path / "empty").mkdir()
    for name in (tmp_path / "empty", "someone/nothing", "nothing at all", tmp_path / "missing"):
        with pytest.raises(ValueError, match="Allowed are"):
            load_tower(name)

    config = {"model_type": "own", "auto_map": {"AutoConfig": "code.Own", "AutoModel": "code.Own"}}
    (tmp_path / "empty" / "config.json").write_text(json.dumps(config))
    (tmp_path / "empty" / "code.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ValueError, match="trust_remote_code=True if it brings its own code"):
        load_tower(tmp_path / "empty")


def test_image_tokens():
    def tokens(tower, layer=-2, side=32):
        return measure_image_tokens(tower.eval(), layer, side)

    for tower, count, prefix, strategy in [
        (tiny_clip()[0].vision_model, 16, 1, "default"),
        (tiny_siglip()[0].vision_model, 16, 0, "full"),
        (ViTModel(ViTConfig(**SMALL)), 16, 1, "default"),
        (Dinov2Model(Dinov2Config(**SMALL)), 16, 1, "default"),
        # Four registers stay as tokens; only the class token goes.
        (Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**SMALL)), 20, 5, "default"),
    ]:
        expected = ImageTokens(count, (4, 4), 8, prefix, strategy)
        assert tokens(tower) == tokens(tower, [-2, -1]) == expected
    # DINOv2 takes another size than it was configured for; a grid that does not divide the image cannot be counted.
    assert tokens(Dinov2Model(Dinov2Config(**SMALL)), side=48).grid == (6, 6)
    conv = timm_tower("resnet")
    assert tokens(conv, -2, SIDE).grid == (4, 4) and conv.config.hidden_size == 24
    assert tokens(conv, [-2, -1], SIDE).grid == (2, 2) and conv.config.feature_layers == [-2, -1]
    assert tokens(conv, -1, 96).patch_size == 32 and conv.config.feature_layers is None
    assert tokens(conv, 1, 30).grid == (15, 15)
    with pytest.raises(ValueError, match="no square grid that divides the image"):
        tokens(conv, 2, 30)  # 8 x 8, as 30 pixels do not divide by 4


def test_levels_of_unequal_grids_in_a_stock_tower():
    class Levels(nn.Module):
        config = ViTConfig(**SMALL)

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))

        def forward(self, pixel_values, **kwargs):
            states = (torch.zeros(1, 17, 32), torch.zeros(1, 5, 32))
            return type("Output", (), {"hidden_states": states})

    with pytest.raises(ValueError, match=r"shapes \(number, width\) \(5, 32\), \(17, 32\).*must be equal"):
        measure_image_tokens(Levels(), [-2, -1], 32)
    with pytest.raises(ValueError, match="no square grid"):
        measure_image_tokens(Levels(), -1, 32)


def test_checksum_sees_every_bit_and_no_place():
    tower = timm_tower("resnet")
    checksum = tower_checksum(tower)
    assert len(checksum) == 64 and checksum == tower_checksum(timm_tower("resnet"))
    assert tower_checksum(tower.to(torch.bfloat16)) != checksum
    for name in ("trunk.bn1.running_mean", "trunk.conv1.weight", "trunk.bn1.num_batches_tracked"):
        changed = timm_tower("resnet")
        changed.state_dict()[name].view(-1)[0] += 1
        assert tower_checksum(changed) != checksum
