"""CLIPTeacher against the libraries it loads from, on random weights."""

import json

import numpy as np
import open_clip
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import nn
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    PreTrainedTokenizerFast,
    Siglip2Config,
    Siglip2ImageProcessor,
    Siglip2Model,
    Siglip2Processor,
    Siglip2Tokenizer,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipProcessor,
)

from hf_clip_kd.models.tokenizer import clip_tokenizer
from hf_clip_kd.open_clip_teacher import OpenClipImageProcessor
from hf_clip_kd.teacher import CLIPTeacher

TEXTS = ["a photo of a red circle", "Two Green squares!", "the small dog, on a very large hill"]
WORDS = "a photo of red circle two green squares the small dog on very large hill".split()
TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def images(count=3, size=(40, 52), seed=0):
    draw = np.random.default_rng(seed)
    return [Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)) for _ in range(count)]


def word_tokenizer(lowercase):
    vocab = {token: index for index, token in enumerate(["<pad>", "<eos>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase() if lowercase else None
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", model_max_length=64
    )


def character_tokenizer():
    """What a native SigLIP 2 folder holds, with one token per character."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    vocab = {token: index for index, token in enumerate([*special, "▁", *"abcdefghijklmnopqrstuvwxyz"])}
    return Siglip2Tokenizer(vocab=vocab, merges=[], padding_side="right")


def tiny_clip(act="quick_gelu", processor_length=77):
    text = {**TOWER, "vocab_size": 600, "bos_token_id": 598, "eos_token_id": 599, "hidden_act": act}
    vision = {**TOWER, "image_size": 32, "patch_size": 8, "hidden_act": act}
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).eval()
    image_processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return model, CLIPProcessor(image_processor, clip_tokenizer(600, processor_length))


def tiny_siglip():
    config = SiglipConfig(
        text_config={**TOWER, "vocab_size": 40, "max_position_embeddings": 16},
        vision_config={**TOWER, "image_size": 32, "patch_size": 8},
    )
    torch.manual_seed(0)
    model = SiglipModel(config).eval()
    model.logit_scale.data.fill_(2.3)
    model.logit_bias.data.fill_(-9.0)
    return model, SiglipProcessor(SiglipImageProcessor(size={"height": 32, "width": 32}), word_tokenizer(True))


def tiny_siglip2():
    config = Siglip2Config(
        text_config={**TOWER, "vocab_size": 40, "max_position_embeddings": 16},
        vision_config={**TOWER, "num_patches": 16, "patch_size": 8},
    )
    torch.manual_seed(0)
    processor = Siglip2Processor(Siglip2ImageProcessor(patch_size=8, max_num_patches=16), character_tokenizer())
    return Siglip2Model(config).eval(), processor


HF_MODELS = {"clip": tiny_clip, "siglip": tiny_siglip, "siglip2": tiny_siglip2}


@pytest.mark.parametrize("from_folder", [True, False])
@pytest.mark.parametrize("build", HF_MODELS.values(), ids=HF_MODELS)
def test_transformers_parity(build, from_folder, tmp_path):
    """The logits of a folder's teacher are those of the model called by hand as its documentation says."""
    model, processor = build()
    if from_folder:
        model.save_pretrained(tmp_path)
        processor.save_pretrained(tmp_path)
        teacher = CLIPTeacher(str(tmp_path))
    else:
        teacher = CLIPTeacher(model, processor=processor)
    length = teacher.processor.context_length
    assert length == model.config.text_config.max_position_embeddings

    # padding=True on purpose: a SigLIP teacher must pad to its full length all the same.
    text = teacher.processor.tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    pixels = teacher.processor.image_processor(images(), return_tensors="pt")["pixel_values"]
    features = teacher(pixels, **text)

    with torch.no_grad():
        padding = True if model.config.model_type == "clip" else "max_length"
        inputs = processor.tokenizer(TEXTS, padding=padding, truncation=True, max_length=length, return_tensors="pt")
        if model.config.model_type != "clip":
            inputs = {"input_ids": inputs["input_ids"]}
        expected = model(**inputs, **processor.image_processor(images(), return_tensors="pt"))
    logits = features.logit_scale * features.image @ features.text.T
    if features.logit_bias is not None:
        logits = logits + features.logit_bias
    torch.testing.assert_close(logits, expected.logits_per_image, rtol=0, atol=1e-5)
    assert teacher.dims.embed_dim == features.image_embeds.shape[1] == features.text_embeds.shape[1]
    assert teacher.dims.has_bias == (model.config.model_type != "clip")
    assert features.logit_scale.ndim == 0


def test_siglip_text_is_lower_case_and_full_length_without_mask():
    """The Gemma tokenizer of fixed-resolution SigLIP 2 repositories does not lower-case: the teacher does."""
    model, processor = tiny_siglip()
    processor.tokenizer = word_tokenizer(lowercase=False)
    teacher = CLIPTeacher(model, processor=processor)
    ids = teacher.processor.tokenizer(["A PHOTO of a Red circle", "a photo of a red circle"])
    assert list(ids) == ["input_ids"] and ids["input_ids"].shape == (2, 16)
    assert torch.equal(*ids["input_ids"])
    masked = teacher.get_text_features(ids["input_ids"], attention_mask=torch.zeros_like(ids["input_ids"]))
    torch.testing.assert_close(masked, teacher.get_text_features(**ids), rtol=0, atol=0)


def test_clip_tokenizer_is_cut_to_the_positions_of_the_model():
    model, processor = tiny_clip(processor_length=1000)
    teacher = CLIPTeacher(model, processor=processor)
    ids = teacher.processor.tokenizer(["word " * 200], truncation=True, return_tensors="pt")
    assert ids["input_ids"].shape == (1, 77)
    assert processor.tokenizer.model_max_length == 1000
    assert teacher.get_text_features(**ids).shape == (1, 24)


def test_quick_gelu_is_the_models_own(tmp_path):
    outputs = []
    for act in ("quick_gelu", "gelu"):
        model, processor = tiny_clip(act)
        model.save_pretrained(tmp_path / act)
        processor.save_pretrained(tmp_path / act)
        teacher = CLIPTeacher(tmp_path / act)
        outputs.append(teacher.get_image_features(torch.full((1, 3, 32, 32), 3.0)))
    assert (outputs[0] - outputs[1]).abs().max() > 1e-4


def test_frozen_and_in_eval_whatever_happens():
    model, processor = tiny_clip()
    model.train()
    teacher = CLIPTeacher(model, processor=processor)
    nn.ModuleList([teacher]).train()
    assert not any(module.training for module in teacher.model.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    features = teacher(torch.randn(1, 3, 32, 32, requires_grad=True))
    assert not features.image_embeds.requires_grad and not features.image_embeds.is_inference()
    assert features.text_embeds is None


def test_half_precision_keeps_the_scale_and_gives_float32():
    model, processor = tiny_clip()
    model.logit_scale.data.fill_(np.log(100.0))
    teacher = CLIPTeacher(model, processor=processor, dtype=torch.bfloat16, device="cpu")
    assert teacher.dtype == torch.bfloat16
    features = teacher(torch.randn(1, 3, 32, 32), torch.tensor([[598, 5, 599]]))
    assert features.image_embeds.dtype == features.text_embeds.dtype == torch.float32
    assert features.logit_scale.item() == pytest.approx(100.0, abs=1e-4)


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
    "tiny-sigmoid": {
        "embed_dim": 192,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 32,
            "timm_model_name": "vit_tiny_patch16_224",
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": {
            "context_length": 16,
            "vocab_size": 40,
            "hf_tokenizer_name": "TOKENIZER",
            "tokenizer_kwargs": {"clean": "canonicalize"},
            "width": 192,
            "heads": 3,
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
        expected, _ = model.get_logits(pixels, tokenizer(TEXTS))
        raw = model.encode_image(pixels)
    logits = features.logit_scale * features.image @ features.text.T
    torch.testing.assert_close(logits + (features.logit_bias or 0), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(features.image_embeds, raw, rtol=0, atol=1e-6)
    assert teacher.dims.embed_dim == OPEN_CLIP_ARCHS[arch]["embed_dim"]
    assert teacher.dims.has_bias == (arch == "tiny-sigmoid")
    assert teacher.processor.context_length == OPEN_CLIP_ARCHS[arch]["text_cfg"]["context_length"]


def test_open_clip_relative_path_local_dir_and_coca(archs, monkeypatch):
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
    assert teacher.processor.image_processor.image_mean == [0.5] * 3
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
    assert teacher.processor.image_processor.image_mean == [0.1, 0.2, 0.3]


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


def vision_only():
    config = CLIPVisionConfig(**TOWER, image_size=32, patch_size=8)
    return CLIPVisionModel(config)


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
        (lambda archs: CLIPTeacher(tiny_clip()[0]), "without image_processor and tokenizer.*AutoProcessor"),
        (lambda archs: CLIPTeacher(tiny_clip()[0], processor=clip_tokenizer(600)), "without image_processor"),
        (lambda archs: CLIPTeacher(vision_only(), processor=tiny_clip()[1]), "CLIPVisionModel.*no image and text"),
        (lambda archs: CLIPTeacher(str(archs / "tokenizer")), "tokenizer"),
        (lambda archs: CLIPTeacher("no-such-organisation/no-such-model"), "no-such-model"),
        (
            lambda archs: OpenClipImageProcessor.from_preprocess_cfg({"size": (24, 40)}),
            "shortest edge.*24x40.*'squash'",
        ),
    ],
)
def test_bad_teachers(build, match, archs):
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


def test_missing_processor_in_a_folder(tmp_path):
    tiny_clip()[0].save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="processor"):
        CLIPTeacher(str(tmp_path))


def test_default_tokenizer_of_an_instance_is_clips(archs):
    teacher = CLIPTeacher(open_clip.create_model("tiny-RN"))
    ids = teacher.processor.tokenizer("a dog")["input_ids"]
    assert torch.equal(ids, SimpleTokenizer()("a dog", context_length=20))
