"""Native export: timm's vision transformers compute the same in stock classes, and other models are refused."""

import pytest
import torch
from export_students import SIDE, VIT, student
from teacher_models import images, tiny_clip
from tiny_text import TINY_TEXT
from transformers import (
    AutoModel,
    CLIPModel,
    CLIPVisionModel,
    Dinov2Model,
    VisionTextDualEncoderModel,
    pipeline,
)

from hf_clip_kd.export import export_model
from hf_clip_kd.export.native import to_native
from hf_clip_kd.models import load_clip


@torch.no_grad()
def assert_same(model, other):
    ids = torch.randint(0, TINY_TEXT["vocab_size"] - 2, (3, 9), generator=torch.Generator().manual_seed(1))
    ids[:, -1] = TINY_TEXT["vocab_size"] - 1
    inputs = {
        "input_ids": ids,
        "pixel_values": torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)),
    }
    expected, found = (encode(**inputs) for encode in (model, other))
    for key in ("image_embeds", "text_embeds", "logits_per_image"):
        torch.testing.assert_close(found[key], expected[key], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("architecture", "model_args", "native_class", "tower_class"),
    [
        ("vit_base_patch16_clip_224", {}, CLIPModel, CLIPVisionModel),
        ("vit_base_patch16_clip_quickgelu_224", {}, CLIPModel, CLIPVisionModel),
        (
            "vit_tiny_patch16_224",
            {"pre_norm": True, "init_values": 0.3, "no_embed_class": True, "qkv_bias": False},
            CLIPModel,
            CLIPVisionModel,
        ),
        ("vit_tiny_patch16_224", {}, VisionTextDualEncoderModel, Dinov2Model),
        ("vit_tiny_patch16_224", {"init_values": 0.3}, VisionTextDualEncoderModel, Dinov2Model),
    ],
    ids=["clip", "quick_gelu", "pre-norm, all folded", "plain", "plain with LayerScale"],
)
def test_vision_transformers(architecture, model_args, native_class, tower_class, tmp_path):
    model, processor = student(tmp_path, architecture, **VIT | model_args)
    model.save_pretrained(tmp_path / "run")
    processor.save_pretrained(tmp_path / "run")
    report = export_model(tmp_path / "run", tmp_path / "out", ["native"])
    assert report["native"]["zero_shot_agreement"] == 1
    loaded, _ = load_clip(tmp_path / "out")
    assert type(loaded) is native_class and type(AutoModel.from_pretrained(tmp_path / "out")) is native_class
    assert not list((tmp_path / "out").rglob("*.py"))
    assert_same(model, loaded)
    tower = AutoModel.from_pretrained(tmp_path / "out" / "vision_model").eval()
    assert type(tower) is tower_class
    pixels = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        expected = model.vision_model(pixels, output_hidden_states=True).hidden_states
        found = tower(pixels, output_hidden_states=True).hidden_states
    for states, other in zip(found[1:], expected[1:], strict=True):
        torch.testing.assert_close(states, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("architecture", "model_args", "reason"),
    [
        ("vit_tiny_patch16_224", VIT | {"reg_tokens": 2}, "register tokens"),
        ("vit_tiny_patch16_224", VIT | {"global_pool": "avg"}, "pools its patches"),
        ("vit_tiny_patch16_224", VIT | {"class_token": False, "global_pool": "avg"}, "no class token"),
        ("vit_tiny_patch16_224", VIT | {"qk_norm": True}, "compute other tokens in Dinov2Model"),
        ("vit_tiny_patch16_224", VIT | {"pre_norm": True, "final_norm": False}, "it|compute|Missing"),
        ("test_resnet", {}, "ResNet is its trunk"),
    ],
)
def test_refused_with_its_reason(architecture, model_args, reason, tmp_path):
    model, _ = student(tmp_path, architecture, **model_args)
    with pytest.raises(ValueError, match=f"cannot be exported as 'native': .*{reason}.*. Allowed .* 'remote-code'"):
        to_native(model)


def test_a_stock_model_stays_and_its_tower_makes_features(tmp_path):
    model, processor = tiny_clip()
    model.save_pretrained(tmp_path / "run")
    processor.save_pretrained(tmp_path / "run")
    (tmp_path / "run" / "recipe.yaml").write_text("seed: 1\n")
    (tmp_path / "run" / "results").mkdir()
    (tmp_path / "run" / "results" / "a.json").write_text("{}")
    (tmp_path / "run" / "training_args.json").write_text("{}")
    (tmp_path / "run" / "losses.safetensors").write_bytes(b"")
    export_model(tmp_path / "run", tmp_path / "out", "native")
    exported = load_clip(tmp_path / "out")[0].state_dict()
    assert all(torch.equal(value, exported[key]) for key, value in model.state_dict().items())
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"recipe.yaml", "training_args.json", "results", "parity.json", "vision_model"} <= names
    assert "losses.safetensors" not in names
    features = pipeline("image-feature-extraction", model=str(tmp_path / "out" / "vision_model"), pool=True)
    picture = images(1, (32, 32))[0]
    pixels = processor.image_processor(picture, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = model.vision_model(pixels).pooler_output
    torch.testing.assert_close(torch.tensor(features(picture)), expected, atol=2e-2, rtol=0)
