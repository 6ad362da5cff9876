"""CLIPTeacher on open_clip models: parity with open_clip, its transform and its tokenizers, and errors."""

import json

import open_clip
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transform import PreprocessCfg, image_transform_v2
from safetensors.torch import save_file
from teacher_models import TEXTS, images, word_tokenizer
from transformers import CLIPConfig, CLIPModel
from transformers.image_utils import PILImageResampling

from hf_clip_kd.losses.features import FeatureRequest
from hf_clip_kd.models import encode_layers, encode_patches
from hf_clip_kd.models.open_clip.loading import OpenClipImageProcessor
from hf_clip_kd.teachers.clip import CLIPTeacher

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


def test_open_clip_relative_path(archs, monkeypatch):
    model = open_clip.create_model("tiny-ViT")
    (archs / "weights").mkdir()
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, archs / "weights" / "ours.safetensors")
    monkeypatch.chdir(archs)
    pixels = torch.randn(2, 3, 32, 32)
    expected = model.eval().encode_image(pixels)
    for name in ("open_clip:tiny-ViT//weights/ours.safetensors", "open_clip:tiny-ViT/weights/ours.safetensors"):
        torch.testing.assert_close(CLIPTeacher(name).get_image_features(pixels), expected, rtol=0, atol=1e-6)


def test_a_repository_on_disk_brings_its_activation_and_preprocessing(archs):
    """Its file alone has neither, and the features would be others without a word."""
    model = open_clip.create_model("tiny-ViT-quickgelu").eval()
    folder = archs / "repository"
    folder.mkdir()
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    pixels_of = {"mean": [0.5] * 3, "interpolation": "bilinear", "resize_mode": "squash"}
    config = {"model_cfg": OPEN_CLIP_ARCHS["tiny-ViT-quickgelu"], "preprocess_cfg": pixels_of}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    teacher = CLIPTeacher(f"open_clip:local-dir:{folder}")
    pixels = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(teacher.get_image_features(pixels), model.encode_image(pixels), rtol=0, atol=1e-6)
    image_processor = teacher.processor.image_processor
    assert image_processor.image_mean == (0.5, 0.5, 0.5) and image_processor.do_center_crop is False
    assert image_processor.resample == PILImageResampling.BILINEAR
    with pytest.raises(ValueError, match=f"open_clip_config.json.*activation.*'open_clip:local-dir:{folder}'"):
        CLIPTeacher(f"open_clip:tiny-ViT/{folder}/open_clip_model.safetensors")


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
    with pytest.raises(ValueError, match="(?s)ViT-B-32/openai.*offline.*Without network.*hf download timm/vit_"):
        CLIPTeacher("open_clip:ViT-B-32/openai")


def test_default_tokenizer_of_an_instance_is_clips(archs):
    teacher = CLIPTeacher(open_clip.create_model("tiny-RN"))
    ids = teacher.processor.tokenizer("a dog")["input_ids"]
    assert torch.equal(ids, SimpleTokenizer()("a dog", context_length=20))


# ---- Tokens and dense embeddings ----


def same_weights_in_transformers(model):
    """A transformers CLIPModel whose image tower is that of the open_clip model `tiny-ViT`."""
    visual = model.visual
    tower = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "hidden_act": "gelu"}
    vision = {**tower, "num_attention_heads": 1, "image_size": 32, "patch_size": 8}
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    twin = CLIPModel(
        CLIPConfig(vision_config=vision, text_config={**text, "vocab_size": 50}, projection_dim=24)
    ).eval()
    state = {
        "embeddings.class_embedding": visual.class_embedding,
        "embeddings.patch_embedding.weight": visual.conv1.weight,
        "embeddings.position_embedding.weight": visual.positional_embedding,
    }
    for part, module in (("pre_layrnorm", visual.ln_pre), ("post_layernorm", visual.ln_post)):
        state |= {f"{part}.{key}": value for key, value in module.state_dict().items()}
    names = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
    for index, block in enumerate(visual.transformer.resblocks):
        layer = f"encoder.layers.{index}."
        for old, new in {**names, "attn.out_proj": "self_attn.out_proj"}.items():
            module = block.get_submodule(old)
            state |= {f"{layer}{new}.{key}": value for key, value in module.state_dict().items()}
        for kind in ("weight", "bias"):
            parts = getattr(block.attn, f"in_proj_{kind}").chunk(3)
            for letter, value in zip("qkv", parts, strict=True):
                state[f"{layer}self_attn.{letter}_proj.{kind}"] = value
    twin.vision_model.load_state_dict(state, strict=True)
    twin.visual_projection.load_state_dict({"weight": visual.proj.T})
    return twin


def prepared(model, layer=None, patch_embeds=False):
    """The open_clip model as a teacher asked for tokens, and a batch of images for it."""
    teacher = CLIPTeacher(model)
    teacher.prepare(FeatureRequest(teacher_layer=layer, patch_embeds=patch_embeds))
    size = model.visual.image_size
    return teacher, torch.randn(3, 3, *((size, size) if isinstance(size, int) else size))


@pytest.mark.parametrize("layer", [1, 2, -1, -2])
def test_layers_and_patches_are_those_of_transformers(layer, archs):
    model = open_clip.create_model("tiny-ViT")
    teacher, pixels = prepared(model, layer, patch_embeds=True)
    features = teacher(pixels)
    with torch.no_grad():
        embeds, tokens, patches = encode_patches(same_weights_in_transformers(model), pixels, layer)
    torch.testing.assert_close(features.image_embeds, embeds, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features.image_tokens, tokens, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features.patch_embeds, patches, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features.image_embeds, model.encode_image(pixels))
    assert teacher.dims.token_dim == 64 and features.image_grid == (4, 4)


def test_several_layers_and_class_tokens_are_those_of_transformers(archs):
    model = open_clip.create_model("tiny-ViT")
    teacher, pixels = prepared(model)
    teacher.prepare(FeatureRequest.of_layers((), (-2, -1), class_token=True, token_moments=True))
    features = teacher(pixels)
    with torch.no_grad():
        _, expected, _ = encode_layers(same_weights_in_transformers(model), pixels, (-2, -1))
    assert features.image_tokens is features.token_moments is None and list(features.layers) == [-2, -1]
    assert teacher.dims.token_dims == ((-2, 64), (-1, 64)) and teacher.dims.token_dim is None
    for layer, found in features.layers.items():
        torch.testing.assert_close(found.image_tokens, expected[layer].patches, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.class_token, expected[layer].class_token, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.token_moments[:, 0], found.image_tokens.mean(dim=1))
        assert found.image_grid == (4, 4)


def open_clip_with(name, archs, **vision):
    """A model as `tiny-ViT` with another image tower."""
    config = {**OPEN_CLIP_ARCHS["tiny-ViT"], "vision_cfg": vision}
    (archs / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(archs / f"{name}.json")
    return open_clip.create_model(name).eval()


def test_resnet_of_clip(archs):
    """Its attention pooling averages values: where it attends to all alike, their mean is the embedding."""
    model = open_clip_with("tiny-RN-64", archs, image_size=64, layers=[1, 1, 1, 1], width=16)
    pool, stage, seen = model.visual.attnpool, model.visual.layer3, []
    for block in (stage, model.visual.layer4):
        torch.nn.init.ones_(block[-1].bn3.weight)
    for parameter in (pool.q_proj.weight, pool.q_proj.bias, pool.positional_embedding):
        torch.nn.init.zeros_(parameter)
    stage.register_forward_hook(lambda module, args, output: seen.append(output))
    teacher, pixels = prepared(model, -2)
    features = teacher(pixels)
    assert torch.equal(features.image_tokens, seen[-1].flatten(2).mT) and features.image_grid == (4, 4)
    teacher.prepare(FeatureRequest(teacher_layer=-1, patch_embeds=True))
    features = teacher(pixels)
    assert features.image_grid == (2, 2) and teacher.dims.token_dim == 512
    torch.testing.assert_close(features.patch_embeds.mean(dim=1), features.image_embeds, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features.image_embeds, model.encode_image(pixels))


AVERAGING = {
    "native": {**OPEN_CLIP_VIT, "pool_type": "avg"},
    "convnet": {"timm_model_name": "test_resnet", "timm_pool": "avg", "timm_proj": "linear", "image_size": 64},
}


@pytest.mark.parametrize(("name", "vision"), AVERAGING.items(), ids=AVERAGING)
def test_mean_of_patch_embeds_is_the_embedding_where_the_tower_averages(name, vision, archs):
    model = open_clip_with(f"tiny-{name}", archs, **vision)
    teacher, pixels = prepared(model, patch_embeds=True)
    features = teacher(pixels)
    assert features.patch_embeds.shape[1] > 1
    torch.testing.assert_close(features.patch_embeds.mean(dim=1), features.image_embeds, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features.image_embeds, model.encode_image(pixels), rtol=1e-4, atol=1e-5)


def test_attention_pooling_of_siglip(archs):
    model = open_clip.create_model("tiny-sigmoid").eval()
    trunk, seen = model.visual.trunk, {}
    for name, module in (("block", trunk.blocks[-2]), ("norm", trunk.norm)):
        module.register_forward_hook(lambda module, args, output, name=name: seen.update({name: output}))
    teacher = CLIPTeacher(model, processor=open_clip.get_tokenizer("tiny-sigmoid"))
    teacher.prepare(FeatureRequest(teacher_layer=-2, patch_embeds=True))
    pixels = torch.randn(2, 3, 160, 160)
    features = teacher(pixels)
    prefix = trunk.num_prefix_tokens
    assert torch.equal(features.image_tokens, seen["block"][:, prefix:])
    assert features.image_grid == (10, 10) and features.image_tokens.shape == (2, 100, 64)
    torch.testing.assert_close(features.image_embeds, model.encode_image(pixels))
    token = seen["norm"][:, prefix + 7 : prefix + 8]
    torch.testing.assert_close(features.patch_embeds[:, 7], trunk.fc_norm(trunk.attn_pool(token)))


def test_class_token_of_timm(archs):
    vision = {"timm_model_name": "test_vit", "timm_pool": "token", "timm_proj": "linear", "image_size": 160}
    model = open_clip_with("tiny-timm-vit", archs, **vision)
    trunk, seen, entering = model.visual.trunk, [], []
    trunk.blocks[-1].norm1.register_forward_pre_hook(lambda module, args: entering.append(args[0]))
    trunk.blocks[-1].norm1.register_forward_hook(lambda module, args, output: seen.append(output))
    teacher = CLIPTeacher(model)
    teacher.prepare(FeatureRequest(teacher_layer=-2, patch_embeds=True, class_token=True))
    pixels = torch.randn(2, 3, 160, 160)
    seen.clear(), entering.clear()
    features = teacher(pixels)
    assert torch.equal(features.class_token, entering[0][:, 0])
    assert torch.equal(features.image_tokens, entering[0][:, trunk.num_prefix_tokens :])
    attention = trunk.blocks[-1].attn
    value = attention.proj(attention.qkv(seen[0][:, trunk.num_prefix_tokens :])[..., -64:])
    torch.testing.assert_close(features.patch_embeds, model.visual.head(trunk.norm(value)))


@pytest.mark.parametrize(
    ("arch", "layer", "patch_embeds", "match"),
    [
        ("tiny-ViT", 0, False, "layer=0 does not exist in open_clip's CLIP .*Allowed are 1 to 2 and -1 to -2"),
        ("tiny-RN", 6, False, "layer=6 does not exist in .*'ModifiedResNet'.*Allowed are 1 to 5"),
        ("tiny-coca", None, True, "open_clip's CoCa .* has no embeddings of single patches.*CLIP's ViTs and ResNets"),
    ],
)
def test_open_clip_teachers_that_cannot_give_patches(arch, layer, patch_embeds, match, archs):
    with pytest.raises(ValueError, match=f"(?s)The teacher .* cannot give .*{match}.*leave out the losses"):
        prepared(open_clip.create_model(arch), layer, patch_embeds)
    teacher, pixels = prepared(open_clip.create_model(arch), -2)
    assert teacher(pixels).image_tokens.shape[1:] == (16 if arch != "tiny-RN" else 4, teacher.dims.token_dim)
