"""CLIPTeacher on open_clip models: parity with open_clip, its transform and its tokenizers, and errors."""

import json

import open_clip
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transform import PreprocessCfg, image_transform_v2
from safetensors.torch import save_file
from teacher_models import TEXTS, images, word_tokenizer

from hf_clip_kd.open_clip_teacher import OpenClipImageProcessor
from hf_clip_kd.teacher import CLIPTeacher

OPEN_CLIP_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
OPEN_CLIP_VIT = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8}
OPEN_CLIP_ARCHS = {
    "tiny-ViT": {"embed_dim": 24, "vision_cfg": OPEN_CLIP_VIT, "text_cfg": OPEN_CLIP_TEXT},
    "tiny-ViT-quickgelu": {
        "embed_dim": 24,
        "quick_gelu": True,
        "vision_cfg": OPEN_CLIP_VIT,
        "text_cfg": OPEN_CLIP_TEXT,
    },
    "tiny-RN": {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 16},
        "text_cfg": {**OPEN_CLIP_TEXT, "context_length": 20},
    },
    "tiny-coca": {
        "embed_dim": 24,
        "vision_cfg": {
            **OPEN_CLIP_VIT,
            "attentional_pool": True,
            "attn_pooler_heads": 2,
            "attn_pooler_queries": 9,
            "output_tokens": True,
        },
        "text_cfg": {**OPEN_CLIP_TEXT, "context_length": 76, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {
            "context_length": 76,
            "vocab_size": 49408,
            "width": 32,
            "heads": 2,
            "layers": 1,
            "attn_pooler_heads": 2,
        },
        "custom_text": True,
    },
    "tiny-sigmoid": {
        "embed_dim": 64,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 160,
            "timm_model_name": "test_vit",
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": {
            "context_length": 16,
            "vocab_size": 40,
            "hf_tokenizer_name": "TOKENIZER",
            "tokenizer_kwargs": {"clean": "canonicalize"},
            "width": 64,
            "heads": 2,
            "layers": 2,
            "no_causal_mask": True,
            "proj_bias": True,
            "pool_type": "last",
            "norm_kwargs": {"eps": 1e-6},
        },
    },
}


@pytest.fixture(scope="module")
def archs(tmp_path_factory):
    """Makes OPEN_CLIP_ARCHS known to open_clip for the tests of this file; gives a folder for checkpoints."""
    folder = tmp_path_factory.mktemp("open_clip")
    word_tokenizer(lowercase=False).save_pretrained(folder / "tokenizer")
    paths, configs = list(open_clip.factory._MODEL_CONFIG_PATHS), dict(open_clip.factory._MODEL_CONFIGS)
    for name, config in OPEN_CLIP_ARCHS.items():
        text = json.dumps(config).replace("TOKENIZER", str(folder / "tokenizer"))
        (folder / f"{name}.json").write_text(text)
        open_clip.add_model_config(folder / f"{name}.json")
    yield folder
    open_clip.factory._MODEL_CONFIG_PATHS[:] = paths
    open_clip.factory._MODEL_CONFIGS = configs


@pytest.mark.parametrize("how", [".pt", ".safetensors", "instance"])
@pytest.mark.parametrize("arch", OPEN_CLIP_ARCHS)
def test_open_clip_parity(arch, how, archs):
    torch.manual_seed(0)
    model, _, preprocess = open_clip.create_model_and_transforms(arch)
    model.eval()
    tokenizer = open_clip.get_tokenizer(arch)
    path = archs / f"{arch}{how}"
    if how == "instance":
        teacher = CLIPTeacher(model, processor=tokenizer)
    elif how == ".pt":
        torch.save({"epoch": 1, "state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, path)
        teacher = CLIPTeacher(f"open_clip:{arch}/{path}")
    else:
        save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
        teacher = CLIPTeacher(f"open_clip:{arch}/{path}")

    pixels = teacher.processor.image_processor(images(), return_tensors="pt")["pixel_values"]
    ids = teacher.processor.tokenizer(TEXTS, padding=True, truncation=True, max_length=8, return_tensors="pt")
    assert torch.equal(pixels, torch.stack([preprocess(image) for image in images()]))
    assert torch.equal(ids["input_ids"], tokenizer(TEXTS)) and "attention_mask" not in ids
    features = teacher(pixels, **ids)
    with torch.no_grad():
        expected, _ = open_clip.CLIP.get_logits(model, pixels, tokenizer(TEXTS))
        raw = model.encode_image(pixels, normalize=False)
    logits = features.logit_scale * features.image @ features.text.T
    torch.testing.assert_close(logits + (features.logit_bias or 0), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(features.image_embeds, raw, rtol=0, atol=1e-6)
    assert teacher.dims.embed_dim == OPEN_CLIP_ARCHS[arch]["embed_dim"]
    assert teacher.dims.has_bias == (arch == "tiny-sigmoid")
    assert teacher.processor.context_length == OPEN_CLIP_ARCHS[arch]["text_cfg"]["context_length"]


def test_open_clip_relative_path_and_local_dir(archs, monkeypatch):
    model = open_clip.create_model("tiny-ViT")
    folder = archs / "repository"
    folder.mkdir()
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    config = {"model_cfg": OPEN_CLIP_ARCHS["tiny-ViT"], "preprocess_cfg": {"mean": [0.5] * 3, "resize_mode": "squash"}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    monkeypatch.chdir(archs)
    pixels = torch.randn(2, 3, 32, 32)
    expected = model.eval().encode_image(pixels)
    for name in (
        "open_clip:tiny-ViT//repository/open_clip_model.safetensors",
        "open_clip:tiny-ViT/repository/open_clip_model.safetensors",
        f"open_clip:local-dir:{folder}",
    ):
        teacher = CLIPTeacher(name)
        torch.testing.assert_close(teacher.get_image_features(pixels), expected, rtol=0, atol=1e-6)
    assert teacher.processor.image_processor.image_mean == (0.5, 0.5, 0.5)
    assert teacher.processor.image_processor.do_center_crop is False


def test_tag_trained_with_quick_gelu_forces_it(archs, monkeypatch):
    """open_clip itself only warns about `ViT-B-32/openai`, and computes other features."""
    right = open_clip.create_model("tiny-ViT-quickgelu")
    path = archs / "openai.pt"
    torch.save(right.state_dict(), path)
    tag = {"file": str(path), "quick_gelu": True, "mean": (0.1, 0.2, 0.3), "interpolation": "bilinear"}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-ViT", {"openai": tag})
    teacher = CLIPTeacher("open_clip:tiny-ViT/openai")
    pixels = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(
        teacher.get_image_features(pixels), right.eval().encode_image(pixels), rtol=0, atol=1e-5
    )
    wrong = open_clip.create_model("tiny-ViT", pretrained=str(path)).eval().encode_image(pixels)
    assert (wrong - teacher.get_image_features(pixels)).abs().max() > 1e-4
    assert teacher.processor.image_processor.image_mean == (0.1, 0.2, 0.3)


@pytest.mark.parametrize(
    "cfg",
    [
        {"size": 32},
        {"size": 33, "interpolation": "bilinear"},
        {"size": 32, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "resize_mode": "squash"},
        {"size": (24, 40), "resize_mode": "squash", "interpolation": "bilinear"},
        {"size": 32, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)},
        {"size": 32, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "resize_mode": "longest"},
        {"size": (24, 40), "resize_mode": "longest", "fill_color": 127},
    ],
    ids=str,
)
def test_image_processor_equals_open_clips_transform(cfg):
    transform = image_transform_v2(PreprocessCfg(**cfg), is_train=False)
    processor = OpenClipImageProcessor.from_preprocess_cfg(cfg)
    for size in [(32, 32), (35, 32), (32, 35), (100, 75), (75, 100), (20, 11), (33, 40), (1, 1), (3, 90), (128, 129)]:
        (image,) = images(1, size)
        assert torch.equal(processor(image, return_tensors="pt")["pixel_values"][0], transform(image)), size


def test_image_processor_survives_saving(tmp_path):
    processor = OpenClipImageProcessor.from_preprocess_cfg({"size": 32, "resize_mode": "longest", "fill_color": 9})
    processor.save_pretrained(tmp_path)
    assert OpenClipImageProcessor.from_pretrained(tmp_path).to_dict() == processor.to_dict()


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (
            lambda archs: CLIPTeacher("open_clip:ViT-B-33/openai"),
            "Unknown open_clip architecture 'ViT-B-33'.*ViT-B-32",
        ),
        (lambda archs: CLIPTeacher("open_clip:ViT-B-32/laion2b_s34b_b79"), "Unknown .*weights.*: laion2b_s34b_b79k"),
        (lambda archs: CLIPTeacher("open_clip:ViT-B-32"), "Unknown open_clip weights '' for ViT-B-32"),
        (lambda archs: CLIPTeacher("open_clip:tiny-ViT/openai"), "It has no tags.*open_clip:tiny-ViT//path"),
        (lambda archs: CLIPTeacher("open_clip:tiny-ViT//nowhere/a.pt"), "There is no checkpoint file '/nowhere/a.pt'"),
        (lambda archs: CLIPTeacher(f"open_clip:tiny-ViT/{archs}/tiny-ViT.json"), "could not be loaded.*exactly that"),
        (lambda archs: CLIPTeacher(f"open_clip:local-dir:{archs}/tokenizer"), "could not be loaded.*local-dir"),
        (lambda archs: CLIPTeacher(open_clip.create_model("tiny-sigmoid")), "40 tokens.*49408.*get_tokenizer"),
        (
            lambda archs: OpenClipImageProcessor.from_preprocess_cfg({"size": (24, 40)}),
            "shortest edge.*24x40.*'squash'",
        ),
    ],
)
def test_bad_open_clip_teachers(build, match, archs):
    with pytest.raises(ValueError, match=f"(?s){match}"):
        build(archs)


def test_checkpoint_of_another_architecture(archs):
    path = archs / "other.pt"
    torch.save(open_clip.create_model("tiny-RN").state_dict(), path)
    with pytest.raises(ValueError, match="(?s)could not be loaded.*exactly that architecture"):
        CLIPTeacher(f"open_clip:tiny-ViT/{path}")


def test_pickled_code_in_a_checkpoint_is_not_run(archs, tmp_path):
    class Payload:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    torch.save({"state_dict": {"x": Payload()}}, archs / "payload.pt")
    with pytest.raises(ValueError, match="could not be loaded"):
        CLIPTeacher(f"open_clip:tiny-ViT/{archs}/payload.pt")
    assert not tmp_path.joinpath("ran").exists()


def test_weights_that_are_not_in_the_cache(monkeypatch):
    def unreachable(*args, **kwargs):
        raise OSError("offline")

    monkeypatch.setattr(open_clip.factory, "download_pretrained", unreachable)
    with pytest.raises(ValueError, match="(?s)ViT-B-32/openai.*offline.*Without network.*//path/to/checkpoint"):
        CLIPTeacher("open_clip:ViT-B-32/openai")


def test_default_tokenizer_of_an_instance_is_clips(archs):
    teacher = CLIPTeacher(open_clip.create_model("tiny-RN"))
    ids = teacher.processor.tokenizer("a dog")["input_ids"]
    assert torch.equal(ids, SimpleTokenizer()("a dog", context_length=20))
