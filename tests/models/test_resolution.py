"""Towers at other sizes: what stays and what is interpolated, and one size after the other."""

import pytest
import torch
from export_students import VIT as SMALL_VIT
from export_students import student
from preset_files import write_json
from teacher_models import images, tiny_clip, tiny_metaclip, tiny_siglip, tiny_siglip2
from timm.layers import resample_abs_pos_embed
from torch import nn
from transformers import AutoModel
from vlm_parts import language_model

from hf_clip_kd.data.transforms.naflex import packed
from hf_clip_kd.export import export_model
from hf_clip_kd.models import encode_images, load_clip, token_shape
from hf_clip_kd.models.resolution import POSITIONS, _on_grid, largest, resize_images, take_sizes
from hf_clip_kd.models.towers.tokens import pooled
from hf_clip_kd.teachers import CLIPTeacher, load_teacher
from hf_clip_kd.vlm import build_llava

VIT = {"img_size": 32, "patch_size": 8, "depth": 2, "embed_dim": 32, "num_heads": 2}
SWIN = {"img_size": 32, "window_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2]}
XCIT = {"img_size": 32, "embed_dim": 32, "depth": 2, "num_heads": 2}
TRUNKS = {
    "convnet": ("test_resnet", 64, None),
    "vit": ("vit_tiny_patch16_224", 32, VIT),
    "vit without class token": ("vit_tiny_patch16_224", 32, VIT | {"class_token": False, "global_pool": "avg"}),
    "swin": ("swin_tiny_patch4_window7_224", 32, SWIN),
    "xcit": ("xcit_nano_12_p8_224", 32, XCIT),
}
STOCK = {"clip": tiny_clip, "siglip": tiny_siglip, "metaclip_2": tiny_metaclip}
MODELS = (*STOCK, *TRUNKS)
# Number of tensors with another shape at another size; 1 is the position embedding. A Swin's are those of its windows.
CHANGED = {"convnet": 0, "xcit": 0, "swin": 2}


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
    assert all("pos" in name for name in changed) and len(changed) == CHANGED.get(kind, 1)
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


@pytest.mark.parametrize("kind", [kind for kind in MODELS if kind != "swin"])
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


def test_resampled_tokens_stay_in_their_places():
    prefix, ramp = torch.randn(1, 2, 3), torch.arange(16.0).view(1, 16, 1).expand(1, 16, 3)
    finer = _on_grid(torch.cat([prefix, ramp], dim=1), 2, 0.5)
    assert torch.equal(finer[:, :2], prefix)
    # Rows differ by 4 and columns by 1. A transposed grid would have it the other way round.
    grid = finer[0, 2:, 0].view(2, 2)
    assert (grid[1] - grid[0]).min() > 4 and (grid[:, 1] - grid[:, 0]).max() < 3
    torch.testing.assert_close(grid.mean(), torch.tensor(7.5))


@pytest.mark.parametrize("kind", ["clip", "convnet", "swin"])
def test_a_tower_alone_gets_the_size_of_its_dual_encoder(kind, tmp_path):
    model, processor = make(kind, tmp_path)
    side = 2 * model.config.vision_config.image_size
    whole, _ = resize_images(model, processor, side)
    tower, rule = resize_images(model.vision_model, processor.image_processor, side)
    pixels = rule(images(), return_tensors="pt")["pixel_values"]
    assert pixels.shape[-1] == side and type(tower) is type(model.vision_model)
    with torch.no_grad():
        assert torch.equal(tower(pixels).pooler_output, whole.vision_model(pixels).pooler_output)


def test_a_teacher_and_its_mapping_take_a_size(tmp_path):
    model, processor = tiny_clip()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    resized, own = resize_images(model, processor, 48)
    for teacher in (
        CLIPTeacher(model, processor=processor, image_size=48),
        load_teacher({"name": str(tmp_path), "image_size": 48}),
    ):
        pixels = teacher.processor.image_processor(images(), return_tensors="pt")["pixel_values"]
        assert torch.equal(pixels, seen(resized, own))
        with torch.no_grad():
            assert torch.equal(teacher(pixels).image_embeds, encode_images(resized, pixels, -1)[0])


@pytest.mark.slow
@pytest.mark.parametrize("forms", [["open_clip"], ["onnx"], ["native"]], ids=str)
def test_a_resized_student_exports(forms, tmp_path):
    model, processor = student(tmp_path, "vit_base_patch16_clip_quickgelu_224", **SMALL_VIT)
    resized, own = resize_images(model, processor, 48)
    resized.save_pretrained(tmp_path / "run")
    own.save_pretrained(tmp_path / "run")
    report = export_model(tmp_path / "run", tmp_path / "out", forms)
    assert report[forms[0]]["real_images"] < 1e-4
    if forms == ["native"]:
        assert load_clip(tmp_path / "out")[0].config.vision_config.image_size == 48


@pytest.mark.parametrize("kind", ["clip", "convnet", "swin"])
def test_a_llava_on_a_larger_tower(kind, tmp_path):
    model, processor = make(kind, tmp_path)
    side = 2 * model.config.vision_config.image_size
    whole, own = resize_images(model, processor, side)
    causal, tokenizer = language_model()
    rules = (processor.image_processor, own.image_processor)
    llavas = [
        build_llava(tower, causal, tokenizer=tokenizer, image_processor=rule, vision_feature_layer=-1, **size)
        for tower, rule, size in zip((model, whole), rules, ({"image_size": side}, {}), strict=True)
    ]
    features = []
    for llava, parts in llavas:
        inputs = parts(images=images(1), text="<image>", return_tensors="pt")
        with torch.no_grad():
            features.append(llava.model.vision_tower(inputs["pixel_values"]).last_hidden_state)
    assert torch.equal(*features)
    assert llavas[0][0].config.image_seq_length == llavas[1][0].config.image_seq_length


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
    with pytest.raises(ValueError, match="image_size.*images of any shape.*Allowed are CLIP"):
        resize_images(*tiny_siglip2(), 64)
    rule = packed(tiny_siglip2()[1].image_processor)
    with pytest.raises(ValueError, match=r"`image_sizes=\[32\]` with a Naflex.*keeps the shape.*Leave `image_sizes`"):
        largest(rule, [32], "image_sizes")
    with pytest.raises(ValueError, match=r"`teacher_image_sizes=\[\]` is no choice"):
        largest(tiny_clip()[1].image_processor, [], "teacher_image_sizes")
