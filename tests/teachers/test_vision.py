"""Vision models as teachers: of transformers and of timm, by name, folder and object, embeddings and tokens."""

from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import save_file
from teacher_models import TOWER, images
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
    ConvNextConfig,
    ConvNextModel,
    DeiTConfig,
    DeiTForImageClassification,
    IJepaConfig,
    IJepaForImageClassification,
    MetaClip2VisionConfig,
    MetaClip2VisionModelWithProjection,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
    ViTMAEConfig,
    ViTMAEModel,
    ViTModel,
    ViTMSNConfig,
    ViTMSNForImageClassification,
)
from vision_teachers import MODELS, crop

from hf_clip_kd.losses import LossSum, requested
from hf_clip_kd.losses.features import CLIPDims, FeatureRequest
from hf_clip_kd.models.load_tower import load_tower
from hf_clip_kd.teachers.clip import CLIPTeacher


def convnet():
    torch.manual_seed(0)
    return ConvNextModel(ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1])).eval()


@pytest.mark.parametrize("from_folder", [True, False])
@pytest.mark.parametrize(("build", "prefix"), MODELS.values(), ids=MODELS)
def test_embeddings_and_tokens_are_the_models_own(build, prefix, from_folder, tmp_path):
    torch.manual_seed(0)
    model = build().eval()
    if from_folder:
        model.save_pretrained(tmp_path)
        crop().save_pretrained(tmp_path)
        teacher = CLIPTeacher(str(tmp_path))
    else:
        teacher = CLIPTeacher(model, processor=crop())
    assert teacher.dims == CLIPDims(32, has_text=False)
    assert teacher.processor.tokenizer is None
    pixels = teacher.processor.image_processor(images(), return_tensors="pt")["pixel_values"]
    assert pixels.shape == (3, 3, 32, 32)
    teacher.prepare(FeatureRequest(teacher_layer=-2, patch_embeds=True, token_moments=True))
    features = teacher(pixels, torch.ones(3, 7, dtype=torch.long), synthetic_input_ids=torch.ones(3, 7))

    with torch.no_grad():
        output = model(pixel_values=pixels, output_hidden_states=True)
    pooled = output.last_hidden_state.mean(1) if output.pooler_output is None else output.pooler_output
    torch.testing.assert_close(features.image_embeds, pooled)
    torch.testing.assert_close(features.image_tokens, output.hidden_states[-2][:, prefix:])
    assert features.image_grid == (4, 4) and teacher.dims.token_dim == 32
    assert features.token_moments.shape == (3, 2, 32)
    assert features.text_embeds is features.synthetic_text_embeds is features.patch_embeds is None
    assert features.logit_scale is features.logit_bias is None
    with pytest.raises(ValueError, match="is a vision model, which embeds no texts.*dual encoder"):
        teacher.get_text_features(torch.ones(3, 7, dtype=torch.long))
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


@pytest.mark.parametrize(("build", "prefix"), MODELS.values(), ids=MODELS)
def test_several_layers_and_class_tokens(build, prefix):
    torch.manual_seed(0)
    model = build().eval()
    teacher, pixels = CLIPTeacher(model, processor=crop()), torch.randn(2, 3, 32, 32)
    request = FeatureRequest.of_layers((), (-2, -1), class_token=prefix > 0)
    teacher.prepare(request)
    features = teacher(pixels)
    with torch.no_grad():
        states = model(pixel_values=pixels, output_hidden_states=True).hidden_states
    for layer in (-2, -1):
        torch.testing.assert_close(features.layers[layer].image_tokens, states[layer][:, prefix:])
        if prefix:
            torch.testing.assert_close(features.layers[layer].class_token, states[layer][:, 0])
    if not prefix:
        with pytest.raises(ValueError, match="has no class token"):
            teacher.prepare(replace(request, class_token=True))


@pytest.mark.parametrize("from_folder", [True, False])
@pytest.mark.parametrize(
    ("model_class", "config_class"),
    [(CLIPVisionModelWithProjection, CLIPVisionConfig), (MetaClip2VisionModelWithProjection, MetaClip2VisionConfig)],
)
def test_a_projection_is_the_teachers(model_class, config_class, from_folder, tmp_path):
    torch.manual_seed(0)
    model = model_class(config_class(**TOWER, image_size=32, patch_size=8, projection_dim=24)).eval()
    model.save_pretrained(tmp_path)
    crop().save_pretrained(tmp_path)
    teacher = CLIPTeacher(tmp_path) if from_folder else CLIPTeacher(model, processor=crop())
    assert teacher.dims == CLIPDims(24, has_text=False)
    pixels = torch.randn(2, 3, 32, 32)
    teacher.prepare(FeatureRequest(teacher_layer=-2))
    with torch.no_grad():
        expected = model(pixels, output_hidden_states=True)
    features = teacher(pixels)
    torch.testing.assert_close(features.image_embeds, expected.image_embeds)
    torch.testing.assert_close(features.image_tokens, expected.hidden_states[-2][:, 1:])
    if from_folder and model_class is CLIPVisionModelWithProjection:
        assert type(load_tower(str(tmp_path))[0]) is CLIPVisionModel  # A LLaVA reads no projection.


def test_models_without_image_features_are_refused(tmp_path):
    classifier = ViTForImageClassification(ViTConfig(**TOWER, image_size=32, patch_size=8))
    with pytest.raises(ValueError, match="ViTForImageClassification gives logits.* without its head"):
        CLIPTeacher(classifier, processor=crop())
    CLIPTextModelWithProjection(CLIPTextConfig(**TOWER, vocab_size=60)).save_pretrained(tmp_path)
    crop().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds a 'clip_text_model' model .* no dual encoder"):
        CLIPTeacher(tmp_path)


@pytest.mark.parametrize("architecture", ["test_vit", "test_convnext"])
def test_timm_checkpoint(architecture, tmp_path):
    torch.manual_seed(0)
    model = timm.create_model(architecture, num_classes=0).eval()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    teacher = CLIPTeacher(f"timm:{architecture}/{tmp_path}/model.safetensors")
    pixels = teacher.processor.image_processor(images(), return_tensors="pt")["pixel_values"]
    teacher.prepare(FeatureRequest(teacher_layer=-1))
    features = teacher(pixels)
    with torch.no_grad():
        torch.testing.assert_close(features.image_embeds, model(pixels))
    rows, columns = features.image_grid
    assert features.image_tokens.shape == (3, rows * columns, teacher.dims.token_dim)
    assert teacher.dims.embed_dim == model.num_features and not teacher.dims.has_text


def test_embeddings_of_a_convnet_but_no_tokens():
    model = convnet()
    teacher = CLIPTeacher(model, processor=crop())
    pixels = torch.randn(2, 3, 32, 32)
    assert torch.equal(teacher(pixels).image_embeds, model(pixels).pooler_output)
    with pytest.raises(ValueError, match="ConvNextModel gives no tokens.*timm:NAME.*leave out the losses"):
        teacher.prepare(FeatureRequest(teacher_layer=-2))


CLASSIFIERS = {
    "vit": (ViTForImageClassification, ViTConfig),
    "deit": (DeiTForImageClassification, DeiTConfig),
    "vit_msn": (ViTMSNForImageClassification, ViTMSNConfig),
    "i-jepa": (IJepaForImageClassification, IJepaConfig),
}


@pytest.mark.parametrize(("model_class", "config_class"), CLASSIFIERS.values(), ids=CLASSIFIERS)
def test_the_embedding_is_what_the_classifier_of_transformers_reads(model_class, config_class, tmp_path):
    """Folders of classifiers have no pooler, and transformers would make one anew."""
    torch.manual_seed(0)
    model = model_class(config_class(**TOWER, image_size=32, patch_size=8, num_labels=5)).eval()
    model.save_pretrained(tmp_path)
    crop().save_pretrained(tmp_path)
    pixels = torch.randn(2, 3, 32, 32)
    for teacher in (CLIPTeacher(str(tmp_path)), CLIPTeacher(model.base_model, processor=crop())):
        with torch.no_grad():
            torch.testing.assert_close(model.classifier(teacher(pixels).image_embeds), model(pixels).logits)


@pytest.mark.parametrize("mask_ratio", [0.75, 0.0])
def test_a_model_that_hides_or_shuffles_patches_by_chance_is_refused(mask_ratio, tmp_path):
    """A ViT-MAE does so in eval mode, too. The fix that its error names gives all patches in their order."""
    torch.manual_seed(0)
    model = ViTMAEModel(ViTMAEConfig(**TOWER, image_size=32, patch_size=8, mask_ratio=mask_ratio)).eval()
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"ViTMAEModel answers .* differently.*ViTModel.from_pretrained\(NAME, add_p"):
        CLIPTeacher(model, processor=crop())
    teacher = CLIPTeacher(ViTModel.from_pretrained(tmp_path, add_pooling_layer=False), processor=crop())
    teacher.prepare(FeatureRequest(teacher_layer=-1))
    pixels, model.config.mask_ratio = torch.randn(2, 3, 32, 32), 0.0
    with torch.no_grad():
        states = model(pixel_values=pixels, noise=torch.arange(16.0).expand(2, -1), output_hidden_states=True)
    torch.testing.assert_close(teacher(pixels).image_tokens, states.hidden_states[-1][:, 1:])


def test_losses_without_text():
    teacher = CLIPTeacher(MODELS["dinov2"][0](), processor=crop())
    student = CLIPDims(16, token_dim=8)
    losses = {"clip": 1.0, "patch": 1.0, "relation": 10.0, "cka": 1.0}
    teacher.prepare(requested(losses))
    assert list(LossSum(losses, student, teacher.dims).weights) == list(losses)
    with pytest.raises(
        ValueError, match=r"\['crd', 'patch_text'\] .* no text tower.*can serve \['patch'\].*Leave the"
    ):
        LossSum({"crd": 1, "patch": 1, "patch_text": 1}, student, teacher.dims)


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (
            lambda: CLIPTeacher(convnet(), processor=ViTImageProcessorPil(size={"shortest_edge": 32})),
            "no fixed size.*height",
        ),
        (lambda: CLIPTeacher("timm:test_vitt"), "'timm:test_vitt' names no model of timm.*test_vit"),
        (lambda: CLIPTeacher("timm:test_vit//nothing.safetensors"), "no .safetensors file 'nothing.safetensors'"),
    ],
)
def test_bad_vision_teachers(build, match):
    with pytest.raises(ValueError, match=f"(?s){match}"):
        build()
