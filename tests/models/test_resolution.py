"""Towers at other sizes: what stays and what is interpolated, and one size after the other."""

import pytest
import torch
from preset_files import write_json
from teacher_models import images, tiny_clip, tiny_metaclip, tiny_siglip, tiny_siglip2
from timm.layers import resample_abs_pos_embed
from torch import nn
from transformers import AutoModel

from hf_clip_kd.models import encode_images, load_clip, token_shape
from hf_clip_kd.models.resolution import POSITIONS, resize_images, take_sizes
from hf_clip_kd.models.towers.tokens import pooled

VIT = {"img_size": 32, "patch_size": 8, "depth": 2, "embed_dim": 32, "num_heads": 2}
TRUNKS = {
    "convnet": ("test_resnet", 64, None),
    "vit": ("vit_tiny_patch16_224", 32, VIT),
    "vit without class token": ("vit_tiny_patch16_224", 32, VIT | {"class_token": False, "global_pool": "avg"}),
}
STOCK = {"clip": tiny_clip, "siglip": tiny_siglip, "metaclip_2": tiny_metaclip}
MODELS = (*STOCK, *TRUNKS)


def make(kind, folder):
    if kind in STOCK:
        found = STOCK[kind]()
        return found if isinstance(found, tuple) else (found, tiny_clip()[1])
    architecture, side, model_args = TRUNKS[kind]
    torch.manual_seed(0)
    model, processor = load_clip(write_json(folder / "student.json", architecture, side, model_args))
    return model.eval(), processor


def seen(model, processor):
    return processor.image_processor(images(), return_tensors="pt")["pixel_values"].to(model.dtype)


@pytest.mark.parametrize("kind", MODELS)
def test_a_folder_at_another_size_is_whole(kind, tmp_path):
    model, processor = make(kind, tmp_path)
    side = 2 * model.config.vision_config.image_size
    resized, own = resize_images(model, processor, side)
    pixels = seen(resized, own)
    assert pixels.shape[-2:] == (side, side) and resized.config.vision_config.image_size == side
    channels, grid = token_shape(resized, -1)
    before = token_shape(model, -1)
    assert channels == before[0] and grid == tuple(2 * n for n in before[1])
    with torch.no_grad():
        embeds, tokens = encode_images(resized, pixels, -1)
    assert tokens.shape[1] == grid[0] * grid[1]
    resized.save_pretrained(tmp_path / "run")
    own.save_pretrained(tmp_path / "run")
    loaded, processor = load_clip(tmp_path / "run")
    with torch.no_grad():
        assert torch.equal(pooled(loaded.get_image_features(seen(loaded, processor))), embeds)
    assert type(AutoModel.from_pretrained(tmp_path / "run")) is type(model)
    changed = [name for name, value in model.state_dict().items() if value.shape != loaded.state_dict()[name].shape]
    assert all("pos" in name for name in changed) and len(changed) == (kind != "convnet")
    assert all(
        torch.equal(value, loaded.state_dict()[k]) for k, value in model.state_dict().items() if k not in changed
    )


def test_positions_are_interpolated_and_the_generator_stays():
    model, processor = tiny_clip()
    state = torch.get_rng_state()
    resized, _ = resize_images(model, processor, 48)
    assert torch.equal(torch.get_rng_state(), state)
    found, old = resized.state_dict()[POSITIONS], model.state_dict()[POSITIONS]
    assert torch.equal(found[0], old[0]), "the class token has no place"
    torch.testing.assert_close(found, resample_abs_pos_embed(old[None], [6, 6])[0])
    again, _ = resize_images(model, processor, 32)
    assert torch.equal(again.state_dict()[POSITIONS], old)


@pytest.mark.parametrize("kind", MODELS)
def test_hidden_states_keep_the_grid_at_each_size(kind, tmp_path):
    model, processor = make(kind, tmp_path)
    side, plain = model.config.vision_config.image_size, seen(model, processor)
    with torch.no_grad():
        expected, tokens = encode_images(model, plain, -1)
    take_sizes(model, [side // 2, side, 2 * side], "image_sizes")
    with torch.no_grad():
        for size in (side // 2, side, 2 * side):
            embeds, found = encode_images(model, nn.functional.interpolate(plain, size, mode="bicubic"), -1)
            assert found.shape == tokens.shape and embeds.shape == expected.shape
            if size == side:
                torch.testing.assert_close((embeds, found), (expected, tokens))


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [("clip", 30, "30 pixels.*patches have 8"), ("clip", 0, "0 pixels"), ("vit", 4, "cannot have it")],
)
def test_sizes_that_cannot_be_are_refused(kind, size, message, tmp_path):
    model, processor = make(kind, tmp_path)
    with pytest.raises(ValueError, match=f"image_size.*{message}.*Allowed are CLIP.*Give another size"):
        resize_images(model, processor, size)


def test_sizes_that_a_step_cannot_draw_are_refused():
    with pytest.raises(ValueError, match=r"`image_sizes`: 36 pixels .*patches have 8 pixels.*Give another"):
        take_sizes(tiny_clip()[0], [32, 36], "image_sizes")
    with pytest.raises(ValueError, match=r"`image_sizes=\[\]` is no choice"):
        take_sizes(tiny_clip()[0], [], "image_sizes")
    with pytest.raises(ValueError, match="image_size.*Allowed are CLIP"):
        resize_images(*tiny_siglip2(), 64)
