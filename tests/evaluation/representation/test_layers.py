"""The layers and patches of every kind of model that has a tower of images."""

import json

import open_clip
import pytest
import torch
from teacher_models import tiny_clip, tiny_dual_encoder, tiny_siglip, tiny_siglip2

import hf_clip_kd as kd
from hf_clip_kd import models
from hf_clip_kd.evaluation.representation import read_patches, read_tower
from hf_clip_kd.models.open_clip import tokens as open_clip_tokens

OPEN_CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"layers": 1, "width": 64, "heads": 2, "context_length": 77, "vocab_size": 49408},
}
RESNET = OPEN_CLIP | {"vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8}}


TOWERS = {
    "clip": lambda: tiny_clip()[0],
    "siglip": lambda: tiny_siglip()[0],
    "metaclip 2": lambda: tiny_dual_encoder("metaclip_2"),
    "student": lambda: kd.load_clip("test-vit")[0],
    "convnet": lambda: kd.load_clip("test-resnet")[0],
    "teacher": lambda: kd.CLIPTeacher(tiny_clip()[0], processor=tiny_clip()[1]),
}


@pytest.mark.parametrize("kind", TOWERS)
def test_layers_are_the_hidden_states(kind):
    model = TOWERS[kind]().eval()
    inner = model.model if isinstance(model, kd.CLIPTeacher) else model
    pixels = torch.randn(3, 3, inner.config.vision_config.image_size, inner.config.vision_config.image_size)
    with torch.no_grad():
        output = read_tower(model, pixels)
        assert len(output.layers) == inner.config.vision_config.num_hidden_layers
        for layer in (-1, -2):
            embeds, tokens = models.encode_images(inner, pixels, layer)
            assert torch.equal(output.layers[layer], tokens)
            assert torch.equal(output.embeds, embeds)
        assert torch.equal(read_patches(model, pixels), models.encode_patches(inner, pixels)[2])


@pytest.mark.parametrize("config", [OPEN_CLIP, RESNET], ids=["vit", "resnet"])
def test_layers_of_open_clip(config, tmp_path):
    (tmp_path / "representation-tiny.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path)
    model = open_clip.create_model("representation-tiny").eval()
    teacher = kd.CLIPTeacher(model)
    size = config["vision_cfg"]["image_size"]
    pixels = torch.randn(2, 3, size, size)
    with torch.no_grad():
        output = read_tower(teacher, pixels)
        assert len(output.layers) == open_clip_tokens.depth(model.visual)
        for layer in (-1, -2):
            embeds, tokens, patches = open_clip_tokens.encode_layers(model, pixels, [layer], patch_embeds=True)
            torch.testing.assert_close(output.layers[layer], tokens[layer].patches)
        torch.testing.assert_close(output.embeds, embeds)
        torch.testing.assert_close(read_patches(teacher, pixels), patches)


def test_layers_that_lie_nowhere():
    model, _ = tiny_siglip2()
    with pytest.raises(ValueError, match="The grid of an image tower of type 'siglip2_vision_model' is unknown"):
        read_tower(model, torch.randn(1, 3, 32, 32))
