"""Towers that see a part of the patches: how many, which, with which positions, and who cannot."""

import pytest
import torch
from preset_files import write_json
from teacher_models import tiny_clip, tiny_metaclip, tiny_siglip

from hf_clip_kd.distillation.model import DistillationModel
from hf_clip_kd.losses.features import CLIPDims
from hf_clip_kd.models import PatchDropping, load_clip


def timm_vit(tmp_path, **model_args):
    arguments = {"img_size": 64, "depth": 2, **model_args}
    return load_clip(write_json(tmp_path / "x.json", "vit_tiny_patch16_224", 64, arguments))[0].eval()


# Build, number of prefix tokens, the first block. All have 16 patches.
STUDENTS = {
    "clip": (lambda path: tiny_clip()[0], 1),
    "siglip": (lambda path: tiny_siglip()[0], 0),
    "metaclip_2": (lambda path: tiny_metaclip(), 1),
    "timm, class token": (timm_vit, 1),
    "timm, average": (lambda path: timm_vit(path, global_pool="avg"), 1),
    "timm, attention": (lambda path: timm_vit(path, global_pool="map"), 1),
    "timm, registers": (lambda path: timm_vit(path, reg_tokens=3), 4),
}


@pytest.fixture(params=STUDENTS.values(), ids=STUDENTS)
def student(request, tmp_path):
    build, prefix = request.param
    model = build(tmp_path)
    tower = model.vision_model
    blocks = tower.trunk.blocks if hasattr(tower, "trunk") else tower.encoder.layers
    return model, prefix, blocks


def embed(model, pixels):
    return model.get_image_features(pixels).pooler_output


def pictures(model, size=3):
    side = model.config.vision_config.image_size
    return torch.randn(size, 3, side, side)


@pytest.mark.parametrize(("ratio", "kept"), [(0.75, 4), (0.5, 8), (0.3, 11), (0.99, 1), (0.0, 16)])
def test_blocks_compute_only_the_patches_that_stay(student, ratio, kept):
    model, prefix, blocks = student
    seen = []
    for block in blocks:
        block.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[1]))
    pixels = pictures(model)
    with PatchDropping(model).hiding(ratio):
        dropped = embed(model, pixels)
    assert seen == [prefix + kept] * len(blocks)
    assert dropped.isfinite().all()
    whole = embed(model, pixels)
    assert seen[-1] == prefix + 16  # All patches are back after the context.
    if ratio == 0:
        torch.testing.assert_close(dropped, whole, rtol=0, atol=0)
    else:
        assert (dropped - whole).abs().max() > 1e-5


def test_patches_keep_their_positions_and_prefix_tokens_stay(student):
    model, prefix, blocks = student
    seen = []
    blocks[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    pixels = pictures(model, 6)
    embed(model, pixels)
    with PatchDropping(model).hiding(0.75):
        embed(model, pixels)
    whole, kept = seen
    assert torch.equal(whole[:, :prefix], kept[:, :prefix])
    # Each kept token is one of the whole image's, embedded at its own place.
    distance = torch.cdist(kept[:, prefix:], whole[:, prefix:], compute_mode="donot_use_mm_for_euclid_dist")
    nearest, places = distance.min(dim=2)
    assert nearest.max() < 1e-6
    assert (places.diff(dim=1) > 0).all()  # Patches keep their order, and each occurs once.
    assert len({tuple(row.tolist()) for row in places}) > 1  # Images have different choices.


def test_every_patch_is_as_likely_as_any():
    model, _ = tiny_clip()
    seen = []
    model.vision_model.pre_layrnorm.register_forward_pre_hook(lambda module, args: seen.append(args[0][:, 1:]))
    pixels = torch.randn(1, 3, 32, 32).expand(2000, -1, -1, -1)
    with torch.no_grad():
        embed(model, pixels[:1])
        with PatchDropping(model).hiding(0.75):
            embed(model, pixels)
    whole, kept = seen[0][0], seen[1].flatten(0, 1)
    places = torch.cdist(kept, whole, compute_mode="donot_use_mm_for_euclid_dist").argmin(dim=1)
    share = places.bincount(minlength=16) / 2000
    assert share.sum() == pytest.approx(4.0)
    assert (share - 0.25).abs().max() < 0.05  # five standard deviations


def test_random_numbers_repeat_the_choice(student):
    model, _, _ = student
    pixels = pictures(model)
    state = torch.get_rng_state()
    with PatchDropping(model).hiding(0.75):
        first, second = embed(model, pixels), embed(model, pixels)
        torch.set_rng_state(state)
        again = embed(model, pixels)
    assert torch.equal(first, again) and not torch.equal(first, second)


def test_pooling_reads_the_patches_that_stay(tmp_path):
    model = timm_vit(tmp_path, global_pool="avg", fc_norm=False)
    trunk, pixels = model.vision_model.trunk, pictures(model)
    seen = []
    trunk.norm.register_forward_hook(lambda module, args, output: seen.append(output))
    with PatchDropping(model).hiding(0.5):
        output = model.vision_model(pixels)
    torch.testing.assert_close(output.pooler_output, seen[0][:, 1:].mean(dim=1))
    assert seen[0].shape[1] == 9


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradient_reaches_the_tower(student, checkpointing):
    model, _, _ = student
    model.train()
    pixels = pictures(model)

    def gradients():
        torch.manual_seed(0)
        model.zero_grad()
        with PatchDropping(model).hiding(0.75):
            loss = embed(model, pixels).square().sum()
        loss.backward()  # recomputes checkpointed blocks outside the context
        return [p.grad.clone() for p in model.vision_model.parameters() if p.grad is not None]

    expected = gradients()
    assert len(expected) >= len(list(model.vision_model.parameters())) - 1
    if checkpointing:
        model.activation_checkpointing_enable()
        for gradient, other in zip(expected, gradients(), strict=True):
            torch.testing.assert_close(gradient, other)


def test_all_patches_are_back_after_an_error():
    model, _ = tiny_clip()
    pixels = pictures(model)
    whole = embed(model, pixels)
    with pytest.raises(RuntimeError), PatchDropping(model).hiding(0.5):
        raise RuntimeError
    assert torch.equal(embed(model, pixels), whole)


@pytest.mark.parametrize("ratio", [1.0, -0.1, 1.5, float("nan")])
def test_ratio_out_of_range(ratio):
    with (
        pytest.raises(ValueError, match=f"mask_ratio={ratio!r} is no share.*less than 1. Write"),
        PatchDropping(tiny_clip()[0]).hiding(ratio),
    ):
        pass


CANNOT = {
    "convnet": ("test_resnet", 64, None),
    "swin": ("swin_tiny_patch4_window7_224", 64, {"img_size": 64, "depths": [1, 1, 1, 1]}),
    "xcit": ("xcit_nano_12_p16_224", 64, {"img_size": 64, "depth": 1}),
    "mobilevit": ("mobilevit_xxs", 64, None),
    "no prefix": ("vit_base_patch16_siglip_224", 32, {"img_size": 32, "depth": 1, "embed_dim": 48, "num_heads": 2}),
    "rotary positions": ("eva02_tiny_patch14_224", 56, {"img_size": 56, "depth": 1}),
}


@pytest.mark.parametrize(("architecture", "size", "arguments"), CANNOT.values(), ids=CANNOT)
def test_students_that_need_all_patches(architecture, size, arguments, tmp_path):
    model, _ = load_clip(write_json(tmp_path / "x.json", architecture, size, arguments))
    message = f"(?s)'{architecture}' cannot leave out patches.*ViTs can.*Leave 'mfd' out"
    with pytest.raises(ValueError, match=message):
        PatchDropping(model)


def test_distillation_model_refuses_at_once():
    with pytest.raises(ValueError, match="'test_resnet' cannot leave out patches"):
        DistillationModel(load_clip("test-resnet")[0], {"mfd": 1.0}, CLIPDims(32))
    DistillationModel(load_clip("test-vit")[0], {"mfd": 1.0}, CLIPDims(32))
