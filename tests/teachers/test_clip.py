"""CLIPTeacher on transformers models: parity, text rules, freezing, errors."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from teacher_models import (
    TEXTS,
    TOWER,
    images,
    processor,
    tiny_clip,
    tiny_dual_encoder,
    tiny_siglip,
    tiny_siglip2,
    word_tokenizer,
)
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel, FlavaConfig, FlavaModel

from hf_clip_kd.losses.features import CLIPDims, FeatureRequest
from hf_clip_kd.models import encode_images, encode_patches, load_clip
from hf_clip_kd.models.tokenizer import clip_tokenizer
from hf_clip_kd.teachers.clip import CLIPTeacher

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


@pytest.mark.parametrize("kind", ["metaclip_2", "altclip", "align", "chinese_clip"])
def test_parity_of_other_dual_encoders(kind):
    """The logits are the model's own, ALIGN's temperature included, which divides."""
    model = tiny_dual_encoder(kind)
    teacher = CLIPTeacher(model, processor=processor())
    assert teacher.processor.context_length == 16
    text = teacher.processor.tokenizer(TEXTS, padding="max_length", max_length=16, return_tensors="pt")
    text = {name: text[name] for name in ("input_ids", "attention_mask")}
    pixels = teacher.processor.image_processor(images(), return_tensors="pt")["pixel_values"]
    features = teacher(pixels, **text)
    with torch.no_grad():
        expected = model(pixel_values=pixels, **text).logits_per_image
    torch.testing.assert_close(features.logit_scale * features.image @ features.text.T, expected, rtol=0, atol=1e-5)
    assert features.logit_scale.item() == pytest.approx(1 / 0.7 if kind == "align" else np.exp(0.7))
    assert teacher.dims == CLIPDims(features.text_embeds.shape[1])


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


def test_temperature_of_its_own():
    model, processor = tiny_clip()
    teacher = CLIPTeacher(model, processor=processor, logit_scale=70.0)
    assert teacher(torch.randn(1, 3, 32, 32)).logit_scale.item() == pytest.approx(70.0)


def test_precision_of_its_own():
    """A teacher computes in its dtype under the trainer's autocast. A teacher without a dtype follows the autocast."""
    pixels = torch.randn(2, 3, 32, 32)
    follows, stays = (CLIPTeacher(tiny_clip()[0], processor=tiny_clip()[1], dtype=d) for d in (None, torch.float32))
    exact = follows(pixels).image_embeds
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(stays(pixels).image_embeds, exact)
        rounded = follows(pixels).image_embeds
    assert rounded.dtype == torch.float32 and 1e-5 < (rounded - exact).abs().max() < 1e-1


def test_device_of_its_own():
    model, processor = tiny_clip()
    free, fixed = (
        CLIPTeacher(model, processor=processor),
        CLIPTeacher(tiny_clip()[0], processor=processor, device="cpu"),
    )
    for teacher, device in ((free, "meta"), (fixed, "cpu")):
        teacher.place("meta")
        assert teacher.device.type == teacher.logit_scale.device.type == device
    assert free(torch.randn(1, 3, 32, 32, device="meta")).image_embeds.device.type == "meta"


@pytest.mark.slow
def test_compiled():
    model, processor = tiny_clip()
    plain, compiled = (CLIPTeacher(model, processor=processor, compile=flag) for flag in (False, True))
    batch = {"pixel_values": torch.randn(2, 3, 32, 32), "input_ids": torch.tensor([[598, 5, 599]] * 2)}
    expected, features = plain.of_batch(batch), compiled.of_batch(batch)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    torch.testing.assert_close(features.image_embeds, expected.image_embeds)
    torch.testing.assert_close(features.text_embeds, expected.text_embeds)


def test_batch_of_a_collator():
    """A teacher takes its own inputs before the student's. Texts go with their own masks."""
    teacher = stock_teacher(tiny_clip)
    mine, students = torch.randn(2, 1, 3, 32, 32)
    ids, mask = torch.tensor([[598, 5, 599]]), torch.tensor([[1, 1, 0]])
    shared = teacher.of_batch({"pixel_values": students, "input_ids": ids})
    assert torch.equal(shared.image_embeds, teacher(students).image_embeds)
    batch = {
        "pixel_values": students,
        "input_ids": ids + 1,
        "attention_mask": mask,
        "teacher_pixel_values": mine,
        "teacher_input_ids": ids,
    }
    own = teacher.of_batch(batch)
    assert torch.equal(own.image_embeds, teacher(mine).image_embeds)
    assert torch.equal(own.text_embeds, shared.text_embeds)


def vision_only():
    return CLIPVisionModel(CLIPVisionConfig(**TOWER, image_size=32, patch_size=8))


def tiny_flava():
    text = {**TOWER, "vocab_size": 40, "max_position_embeddings": 16}
    sizes = {"image_config": {**TOWER, "image_size": 32, "patch_size": 8}, "multimodal_config": TOWER}
    return FlavaModel(FlavaConfig(text_config=text, **sizes, projection_dim=24, hidden_size=32))


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda: CLIPTeacher(tiny_clip()[0]), "without image_processor and tokenizer.*AutoProcessor"),
        (lambda: CLIPTeacher(tiny_clip()[0], processor=clip_tokenizer(600)), "without image_processor"),
        (lambda: CLIPTeacher(vision_only()), "CLIPVisionModel.*without an image processor.*AutoImageProcessor"),
        (lambda: CLIPTeacher(nn.Linear(2, 2)), "Linear.*embeds images.*FunctionTeacher"),
        (lambda: CLIPTeacher(CLIPTextModel(CLIPTextConfig(**TOWER))), "CLIPTextModel.*nor pixel_values"),
        (lambda: CLIPTeacher(tiny_flava(), processor=processor()), r"\(1, 16, 24\) for one text.*FunctionTeacher"),
        (lambda: CLIPTeacher("ViT-T-16"), "preset, which has random weights.*load_clip"),
        (lambda: CLIPTeacher("no-such-organisation/no-such-model"), "no-such-model"),
    ],
)
def test_bad_teachers(build, match):
    with pytest.raises(ValueError, match=f"(?s){match}"):
        build()


@pytest.mark.parametrize("kind", ["no model", "no processor", "vision only, no processor"])
def test_bad_folders(kind, tmp_path):
    if kind != "no model":
        (vision_only() if "vision" in kind else tiny_clip()[0]).save_pretrained(tmp_path)
    if "no processor" not in kind:
        tiny_clip()[1].save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=tmp_path.name):
        CLIPTeacher(str(tmp_path))


# ---- Features beyond embeddings ----

ALL = FeatureRequest(layer=-2, teacher_layer=-1, patch_embeds=True, token_moments=True)


def preset_teacher(name):
    model, processor = load_clip(name)
    return CLIPTeacher(model, processor=processor)


def stock_teacher(build):
    model, processor = build()
    return CLIPTeacher(model, processor=processor)


PATCH_TEACHERS = {
    "clip": (lambda: stock_teacher(tiny_clip), 32, (4, 4)),
    "siglip": (lambda: stock_teacher(tiny_siglip), 32, (4, 4)),
    "xcit of the demo": (lambda: preset_teacher("shapes-xcit"), 64, (4, 4)),
    "convnet": (lambda: preset_teacher("test-resnet"), 96, (2, 2)),
}


@pytest.mark.parametrize(("build", "channels", "grid"), PATCH_TEACHERS.values(), ids=PATCH_TEACHERS)
def test_prepared_teacher_gives_what_was_asked(build, channels, grid):
    teacher = build()
    plain = teacher.dims
    side = teacher.model.config.vision_config.image_size
    pixels = torch.randn(3, 3, side, side)
    before = teacher(pixels)
    assert before.image_tokens is before.patch_embeds is before.image_grid is before.token_moments is None

    teacher.prepare(ALL)
    assert teacher.dims == CLIPDims(plain.embed_dim, token_dim=channels, has_bias=plain.has_bias)
    features = teacher(pixels)
    _, tokens, patches = encode_patches(teacher.model, pixels, -1)
    assert torch.equal(features.image_embeds, before.image_embeds)
    assert torch.equal(features.image_tokens, tokens) and torch.equal(features.patch_embeds, patches)
    assert features.image_grid == grid and tokens.shape == (3, grid[0] * grid[1], channels)
    assert patches.shape == (3, grid[0] * grid[1], plain.embed_dim)
    assert not any(value.requires_grad for value in features.tensors().values())
    mean, square = features.token_moments.unbind(dim=1)
    torch.testing.assert_close(mean, tokens.mean(dim=1))
    torch.testing.assert_close(square - mean**2, tokens.var(dim=1, correction=0), rtol=1e-4, atol=1e-4)

    teacher.prepare(FeatureRequest(layer=-2))
    assert teacher.dims == plain and teacher(pixels).image_tokens is None


def test_only_what_was_asked():
    teacher, pixels = stock_teacher(tiny_clip), torch.randn(2, 3, 32, 32)
    teacher.prepare(FeatureRequest(teacher_layer=-2))
    features = teacher(pixels)
    assert torch.equal(features.image_tokens, encode_images(teacher.model, pixels, -2)[1])
    assert features.patch_embeds is features.token_moments is None
    teacher.prepare(FeatureRequest(patch_embeds=True))
    features = teacher(pixels)
    assert features.image_tokens is None and teacher.dims.token_dim is None
    assert features.patch_embeds.shape == (2, 16, 24) and features.image_grid == (4, 4)


def test_several_layers_and_class_tokens():
    teacher, pixels = stock_teacher(tiny_clip), torch.randn(2, 3, 32, 32)
    plain = teacher.dims
    teacher.prepare(FeatureRequest.of_layers((), (-1, -3), class_token=True, token_moments=True, patch_embeds=True))
    assert teacher.dims == replace(plain, token_dims=((-3, 32), (-1, 32)))
    features = teacher(pixels)
    with torch.no_grad():
        states = teacher.model.vision_model(pixels, output_hidden_states=True).hidden_states
    assert list(features.layers) == [-3, -1] and features.image_grid == (4, 4)
    for layer, found in features.layers.items():
        assert torch.equal(found.image_tokens, states[layer][:, 1:])
        assert torch.equal(found.class_token, states[layer][:, 0])
        torch.testing.assert_close(found.token_moments[:, 1], found.image_tokens.square().mean(dim=1))
    # A single layer has the plain names.
    teacher.prepare(FeatureRequest.of_layers((), (-3,), class_token=True))
    single = teacher(pixels)
    assert single.layers == {} and torch.equal(single.class_token, features.layers[-3].class_token)
    assert torch.equal(single.image_tokens, features.layers[-3].image_tokens) and teacher.dims.token_dim == 32


def test_layers_of_a_convnet_differ_in_grid_and_width():
    teacher = preset_teacher("test-resnet")
    teacher.prepare(FeatureRequest.of_layers((), (-2, -1), patch_embeds=True))
    side = teacher.model.config.vision_config.image_size
    found = teacher(torch.randn(2, 3, side, side))
    assert {layer: x.image_grid for layer, x in found.layers.items()} == {-2: (4, 4), -1: (2, 2)}
    widths = {layer: x.image_tokens.shape[2] for layer, x in found.layers.items()}
    assert teacher.dims.token_dims == tuple(widths.items()) and widths[-2] != widths[-1] == 96
    assert found.image_grid == (2, 2) and found.patch_embeds.shape[1] == 4


def test_one_image_pass_for_everything():
    teacher, calls = stock_teacher(tiny_clip), []
    teacher.prepare(ALL)
    teacher.model.vision_model.embeddings.register_forward_hook(lambda *_: calls.append(1))
    teacher(torch.randn(2, 3, 32, 32))
    assert len(calls) == 1


def test_synthetic_captions():
    teacher = stock_teacher(tiny_clip)
    texts = teacher.processor.tokenizer(TEXTS, padding=True, return_tensors="pt")
    features = teacher(synthetic_input_ids=texts["input_ids"], synthetic_attention_mask=texts["attention_mask"])
    assert torch.equal(features.synthetic_text_embeds, teacher.get_text_features(**texts))
    assert features.text_embeds is features.image_embeds is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_patches_of_a_half_precision_teacher_are_float32(dtype):
    model, processor = tiny_clip()
    teacher = CLIPTeacher(model, processor=processor, dtype=dtype)
    teacher.prepare(ALL)
    features = teacher(torch.randn(2, 3, 32, 32))
    assert {value.dtype for value in features.tensors().values()} == {torch.float32}


@pytest.mark.parametrize(
    ("build", "request_", "match"),
    [
        (lambda: stock_teacher(tiny_siglip2), FeatureRequest(teacher_layer=-2), "siglip2_vision_model' is unknown"),
        (lambda: stock_teacher(tiny_siglip2), FeatureRequest(patch_embeds=True), "no embeddings of single patches"),
        (lambda: stock_teacher(tiny_clip), FeatureRequest(teacher_layer=7), "layer=7 does not exist.*0 to 2"),
        (
            lambda: stock_teacher(tiny_siglip),
            FeatureRequest(teacher_layer=-2, class_token=True),
            "has no class token.*'summary': 'image_embeds'",
        ),
        (
            lambda: preset_teacher("test-resnet"),
            FeatureRequest(teacher_layer=-2, patch_embeds=True),
            r"teacher_layer=-2 lie on the grid \(4, 4\), its patch embeddings on \(2, 2\).*teacher_layer=-1",
        ),
    ],
)
def test_teachers_that_cannot_give_patches_say_so_at_once(build, request_, match):
    teacher = build()
    dims = teacher.dims
    with pytest.raises(ValueError, match=f"(?s)The teacher .* cannot give .*{match}.*leave out the losses"):
        teacher.prepare(request_)
    assert teacher.dims == dims
