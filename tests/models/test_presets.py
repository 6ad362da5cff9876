"""The students: every preset builds, trains, saves and reloads; what they claim about themselves is true."""

import math

import pytest
import timm
import torch
from aligned import aligned
from PIL import Image
from preset_files import write_json
from transformers import (
    AutoModel,
    BertConfig,
    CLIPModel,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2Config,
)

from hf_clip_kd.models import TimmCLIPModel, TimmVisionConfig, TimmVisionModel, list_models, load_clip, token_layout

TEXTS = ["a photo of a red circle", "two small dogs & a cat!"]


def batch(model, size=2):
    side = model.config.vision_config.image_size
    text = model.config.text_config
    ids = torch.randint(0, text.vocab_size - 2, (size, 8))
    ids[:, 0], ids[:, -1] = text.bos_token_id, text.eos_token_id
    return {"input_ids": ids, "pixel_values": torch.randn(size, 3, side, side)}


def picture(side):
    return Image.effect_mandelbrot((side, side), (-2, -1.5, 1, 1.5), 60).convert("RGB")


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def marked(name):
    """Put the large trunks of timm into the slow tier; a new preset is tested in the fast tier."""
    large = name in ("EfficientNet-B0", "FastViT-T8", "MobileViT-S", "ResNet-18", "Swin-T", "ViT-S-16")
    large = large or name in ("pictures-lite0", "pictures-mobilenet")
    return pytest.param(name, marks=[pytest.mark.slow] if large else [])


@pytest.mark.parametrize("name", [marked(name) for name in list_models()])
def test_preset_builds_trains_saves_and_reloads(name, tmp_path):
    torch.manual_seed(0)
    model, processor = load_clip(name)
    config = model.config
    assert isinstance(model, TimmCLIPModel if hasattr(config.vision_config, "architecture") else CLIPModel)
    assert model.training and model.logit_scale.ndim == 0
    assert model.logit_scale.item() == pytest.approx(math.log(1 / 0.07))
    assert config.text_config.eos_token_id == processor.tokenizer.eos_token_id == len(processor.tokenizer) - 1
    assert config.text_config.bos_token_id == processor.tokenizer.bos_token_id
    assert config.text_config.pad_token_id == processor.tokenizer.pad_token_id
    assert processor.tokenizer.model_max_length == config.text_config.max_position_embeddings

    inputs = batch(model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    loss = model(**inputs, return_loss=True).loss
    loss.backward()
    assert math.isfinite(loss.item())
    assert not [key for key, parameter in model.named_parameters() if parameter.grad is None]
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert any(not torch.equal(before[key], value) for key, value in model.state_dict().items())

    model.eval()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again, processor_again = load_clip(tmp_path)
    assert type(again) is type(model) and not again.training
    aligned(again)
    with torch.no_grad():
        expected, found = model(**inputs, output_hidden_states=True), again(**inputs, output_hidden_states=True)
    assert torch.equal(expected.logits_per_image, found.logits_per_image)
    assert processor_again.tokenizer(TEXTS).input_ids == processor.tokenizer(TEXTS).input_ids

    grid, prefix = token_layout(again.config.vision_config)
    vision = found.vision_model_output
    shape = (2, prefix + grid[0] * grid[1], config.vision_config.hidden_size)
    assert vision.last_hidden_state.shape == vision.hidden_states[-1].shape == shape
    assert len(vision.hidden_states) == config.vision_config.num_hidden_layers + 1

    side = config.vision_config.image_size
    pixels = processor_again(images=picture(side + 37), text=TEXTS, padding=True, return_tensors="pt").pixel_values
    assert pixels.shape == (1, 3, side, side)


# Millions of parameters of the image tower with its projection, and of the model, from CLIP-KD (arXiv 2307.12732).
# The paper has no FastViT-T8. It has 1.8 and 42.3 for MobileNetV3-S, which timm 1 builds larger.
PARAMETERS = {
    "ViT-T-16": (5.62, 46.1),
    "Swin-T": (27.9, 68.4),
    "MobileViT-S": (5.3, 45.8),
    "EfficientNet-B0": (4.7, 45.2),
    "ResNet-18": (11.4, 51.9),
    "MobileNetV3-S": (2.0, 42.5),
    "FastViT-T8": (3.7, 44.1),
}


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts(name):
    model, _ = load_clip(name)
    vision = count(model.vision_model) + count(model.visual_projection)
    found = (vision / 1e6, count(model) / 1e6)
    assert found == pytest.approx(PARAMETERS[name], abs=0.051)
    if name == "ViT-T-16":
        assert count(model.vision_model) / 1e6 == pytest.approx(5.5, abs=0.05)


def test_fresh_weights_follow_the_callers_seed():
    def logits_weight(name, seed):
        torch.manual_seed(seed)
        return load_clip(name)[0].visual_projection.weight

    for name in ("test-vit", "test-resnet"):
        assert torch.equal(logits_weight(name, 0), logits_weight(name, 0))
        assert not torch.equal(logits_weight(name, 0), logits_weight(name, 1))


def test_preset_takes_dtype():
    model, _ = load_clip("test-resnet", dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert model(**batch(model)).logits_per_image.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("architecture", "image_size", "model_args"),
    [("resnet18", 64, None), ("vit_tiny_patch16_224", 32, {"img_size": 32, "depth": 2}), ("test_convnext", 64, None)],
)
def test_trunk_keeps_the_init_of_timm(architecture, image_size, model_args, tmp_path):
    arguments = model_args or {}
    torch.manual_seed(0)
    reference = timm.create_model(architecture, num_classes=0, **arguments).state_dict()
    torch.manual_seed(0)
    tower = TimmVisionModel(TimmVisionConfig(architecture=architecture, image_size=image_size, model_args=model_args))
    assert all(torch.equal(reference[key], value) for key, value in tower.trunk.state_dict().items())

    # The same inside the dual encoder: batch norms and biases are timm's, and no big tensor is N(0, 0.02).
    model, _ = load_clip(write_json(tmp_path / "x.json", architecture, image_size, model_args))
    for key, value in model.vision_model.trunk.state_dict().items():
        assert value.float().std(correction=0).item() == pytest.approx(
            reference[key].float().std(correction=0).item(), rel=0.2, abs=1e-3
        )


# Families whose buffers are not in the checkpoint, prefix tokens of three sorts, channels-last and ceil'd grids.
FAMILIES = [
    ("swin_tiny_patch4_window7_224", 64, {"img_size": 64, "depths": [1, 1, 1, 1]}, (2, 2), 0),
    ("swinv2_cr_tiny_ns_224", 64, {"img_size": 64, "depths": [1, 1, 1, 1]}, (2, 2), 0),
    ("levit_128s", 224, None, (4, 4), 0),
    ("tiny_vit_5m_224", 64, {"depths": [1, 1, 1, 1]}, (2, 2), 0),
    ("eva02_tiny_patch14_224", 56, {"img_size": 56, "depth": 2}, (4, 4), 1),
    ("deit_tiny_distilled_patch16_224", 32, {"img_size": 32, "depth": 2}, (2, 2), 2),
    ("vit_small_patch14_reg4_dinov2", 56, {"img_size": 56, "depth": 2}, (4, 4), 5),
    ("vit_base_patch16_siglip_224", 32, {"img_size": 32, "depth": 1}, (2, 2), 0),
    ("xcit_nano_12_p16_224", 64, {"depth": 2}, (4, 4), 0),
    ("mobilenetv4_conv_small", 64, None, (2, 2), 0),
]


@pytest.mark.parametrize(("architecture", "image_size", "model_args", "grid", "prefix"), FAMILIES)
def test_any_timm_model_from_a_json(architecture, image_size, model_args, grid, prefix, tmp_path):
    model, _ = load_clip(write_json(tmp_path / "x.json", architecture, image_size, model_args))
    model.eval()
    assert token_layout(model.config.vision_config) == (grid, prefix)
    pixels = batch(model)["pixel_values"]
    with torch.no_grad():
        output = model.vision_model(pixels)
        torch.testing.assert_close(output.pooler_output, model.vision_model.trunk(pixels), rtol=0, atol=0)
    assert output.last_hidden_state.shape[1:] == (prefix + grid[0] * grid[1], model.config.vision_config.hidden_size)
    assert output.pooler_output.shape[-1] == model.config.vision_config.pooled_size
    model.save_pretrained(tmp_path / "saved")
    again = aligned(AutoModel.from_pretrained(tmp_path / "saved").eval())
    with torch.no_grad():
        assert torch.equal(again.vision_model(pixels).pooler_output, output.pooler_output)


@pytest.mark.parametrize(
    ("wanted", "filled"),
    [(-1, [5]), (-2, [4]), (3, [3]), ([-2, -1], [4, 5]), ([1, 5], [1, 5]), (True, [1, 2, 3, 4, 5])],
)
def test_output_hidden_states_selects(wanted, filled):
    model, _ = load_clip("test-resnet")
    tower, pixels = model.vision_model.eval(), batch(model)["pixel_values"]
    every = tower(pixels, output_hidden_states=True).hidden_states
    hidden = tower(pixels, output_hidden_states=wanted).hidden_states
    assert [level for level, state in enumerate(hidden) if state is not None] == filled
    assert all(torch.equal(hidden[level], every[level]) for level in filled)
    assert tower(pixels).hidden_states is None
    assert torch.equal(every[-1], tower(pixels).last_hidden_state)


@pytest.mark.parametrize("wanted", [0, 6, -6, [0, -1]])
def test_output_hidden_states_refuses_levels_that_are_not_there(wanted):
    model, _ = load_clip("test-resnet")
    with pytest.raises(ValueError, match=r"Allowed are 1 to 5 and -1 to -5 .* Use output_hidden_states=-1"):
        model.vision_model(batch(model)["pixel_values"], output_hidden_states=wanted)


def test_tokens_are_the_map_of_the_trunk_row_by_row():
    model, _ = load_clip("shapes-conv")
    model.eval()
    pixels = batch(model)["pixel_values"]
    with torch.no_grad():
        tokens = model.vision_model(pixels).last_hidden_state
        features = model.vision_model.trunk.forward_features(pixels)
    assert token_layout(model.config.vision_config) == ((4, 4), 0)
    assert torch.equal(tokens[:, 1 * 4 + 2], features[:, :, 1, 2])


def test_forward_is_that_of_clip_model():
    model, _ = load_clip("test-resnet")
    model.eval()
    inputs = batch(model)
    output = model(**inputs, return_loss=True)
    image = torch.nn.functional.normalize(model.get_image_features(inputs["pixel_values"]).pooler_output)
    text = torch.nn.functional.normalize(model.get_text_features(inputs["input_ids"]).pooler_output)
    logits = model.logit_scale.exp() * image @ text.T
    labels = torch.arange(2)
    cross_entropy = torch.nn.functional.cross_entropy
    loss = (cross_entropy(logits, labels) + cross_entropy(logits.T, labels)) / 2
    torch.testing.assert_close(output.logits_per_image, logits)
    torch.testing.assert_close(output.loss, loss)
    assert model(**inputs).loss is None
    assert isinstance(model(**inputs, return_dict=False), tuple)


@pytest.mark.parametrize("name", ["test-vit", "test-resnet", "shapes-conv"])
def test_gradient_checkpointing_keeps_the_gradients(name):
    torch.manual_seed(0)
    model, _ = load_clip(name)
    inputs = batch(model, 4)

    def gradients():
        model.zero_grad()
        model(**inputs, return_loss=True).loss.backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    expected = gradients()
    model.activation_checkpointing_enable()
    for gradient, other in zip(expected, gradients(), strict=True):
        torch.testing.assert_close(gradient, other)
    if name != "test-vit":
        assert model.vision_model.trunk.grad_checkpointing
        model.eval()
        model(**inputs)
        assert not model.vision_model.trunk.grad_checkpointing


def test_gradient_checkpointing_that_the_trunk_lacks(tmp_path):
    model, _ = load_clip(write_json(tmp_path / "x.json", "selecsls42"))
    model.activation_checkpointing_enable()
    with pytest.raises(ValueError, match="'selecsls42' has no gradient checkpointing.*gradient_checkpointing=False"):
        model(**batch(model))


def test_tower_inside_llava(tmp_path):
    vision, _ = load_clip("test-resnet")
    text = Qwen2Config(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    config = LlavaConfig(
        vision_config=vision.config.vision_config,
        text_config=text,
        image_token_index=49,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    model = LlavaForConditionalGeneration(config).eval()
    ids = torch.tensor([[1] + [49] * math.prod(token_layout(vision.config.vision_config).grid) + [2]])
    pixels = torch.randn(1, 3, 64, 64)
    expected = model(input_ids=ids, pixel_values=pixels).logits
    model.save_pretrained(tmp_path)
    again = LlavaForConditionalGeneration.from_pretrained(tmp_path)
    assert torch.equal(again(input_ids=ids, pixel_values=pixels).logits, expected)


def test_layout_of_an_unknown_tower():
    with pytest.raises(ValueError, match="image tower of type 'bert' is unknown. .*. Use a ViT"):
        token_layout(BertConfig())
