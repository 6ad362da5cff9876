"""Names of models in their parts."""

import json

import pytest

from hf_clip_kd.models.names import LIBRARIES, ModelName, is_hub_id, parse_name


@pytest.mark.parametrize(
    ("name", "kind", "rest"),
    [
        ("ViT-T-16", "preset", "ViT-T-16"),
        ("openai/clip-vit-base-patch16", "hub", "openai/clip-vit-base-patch16"),
        ("open_clip:ViT-B-16/openai", "open_clip", "ViT-B-16/openai"),
        ("open_clip:local-dir:/data/model", "open_clip", "local-dir:/data/model"),
        ("timm:resnet18.a1_in1k", "timm", "resnet18.a1_in1k"),
        ("python:package.module.function", "python", "package.module.function"),
        ("student.json", "json", "student.json"),
        ("resnet18", "unknown", "resnet18"),
        ("/nowhere/at/all", "unknown", "/nowhere/at/all"),
        ("./two/parts", "unknown", "./two/parts"),
        (r"C:\models\clip", "unknown", r"C:\models\clip"),
        ("https://host/model", "unknown", "https://host/model"),
    ],
)
def test_kinds(name, kind, rest):
    assert parse_name(name) == ModelName(kind, rest)


def test_a_folder_comes_before_a_hub_id_and_a_preset_before_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse_name("outputs/student").kind == "hub"
    for name in ("outputs/student", "ViT-T-16", "a:b", "x.json"):
        (tmp_path / name).mkdir(parents=True)
    assert [parse_name(name).kind for name in ("outputs/student", "a:b", "x.json")] == ["folder"] * 3
    assert parse_name(tmp_path).kind == "folder"
    assert parse_name("ViT-T-16").kind == "preset"


@pytest.mark.parametrize(
    ("name", "architecture", "weights"),
    [
        ("open_clip:ViT-B-16/laion2b_s34b_b88k", "ViT-B-16", "laion2b_s34b_b88k"),
        ("open_clip:ViT-B-16//data/checkpoint.pt", "ViT-B-16", "/data/checkpoint.pt"),
        ("timm:resnet18.a1_in1k", "resnet18.a1_in1k", ""),
        ("timm:resnet18//weights.safetensors", "resnet18", "/weights.safetensors"),
    ],
)
def test_architecture_and_weights(name, architecture, weights):
    parsed = parse_name(name)
    assert (parsed.architecture, parsed.weights) == (architecture, weights)


@pytest.mark.parametrize("name", ["clip", "a/b/c", "~/clip", "../clip", "a b/c", "/clip", "clip/"])
def test_no_hub_ids(name):
    assert not is_hub_id(name)


@pytest.mark.parametrize(
    ("name", "hub_id"),
    [
        ("open_clip:ViT-B-16/laion2b_s34b_b88k", "laion/CLIP-ViT-B-16-laion2B-s34B-b88K"),
        ("open_clip:ViTamin-S/datacomp1b", "jienengchen/ViTamin-S"),
        ("open_clip:ViT-B-16//data/checkpoint.pt", None),
        ("timm:resnet18.a1_in1k", "timm/resnet18.a1_in1k"),
        ("timm:resnet18//data/weights.safetensors", None),
    ],
)
def test_hub_ids_of_libraries(name, hub_id):
    parsed = parse_name(name)
    assert LIBRARIES[parsed.kind].hub_id(parsed) == hub_id


def test_a_name_is_a_plain_value():
    assert json.dumps(vars(parse_name("timm:resnet18"))) == '{"kind": "timm", "rest": "resnet18"}'
