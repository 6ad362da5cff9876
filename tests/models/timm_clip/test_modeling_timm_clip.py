"""Tensors that a checkpoint lacks start as in a new model, and never as what was in the memory before."""

import pytest
import timm
import torch
from preset_files import write_json
from safetensors.torch import load_file, save_file
from transformers import AutoModel, CLIPTextModel

from hf_clip_kd.models import TimmCLIPModel, TimmVisionModel, load_clip

# A transformer, a convnet with batch norm, a hybrid, and a trunk with position indices outside the checkpoint.
TRUNKS = {
    "vit": ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 8, "depth": 2, "embed_dim": 32, "num_heads": 4}),
    "conv": ("test_resnet", {}),
    "hybrid": ("test_byobnet", {}),
    "swin": (
        "swin_tiny_patch4_window7_224",
        {"img_size": 32, "window_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2]},
    ),
}
SIDE = 32


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A saved student on each trunk. None of its tensors is as in a new one."""
    found = {}
    for name, (architecture, model_args) in TRUNKS.items():
        folder = found[name] = tmp_path_factory.mktemp(name)
        torch.manual_seed(0)
        model, processor = load_clip(write_json(folder / "x.json", architecture, SIDE, model_args))
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.5)
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    return found


@pytest.fixture
def used_memory(monkeypatch):
    """Memory that transformers asks for holds NaN, or -7 as an integer."""

    def filled(like, **options):
        return torch.full_like(like, float("nan") if like.is_floating_point() else -7, **options)

    monkeypatch.setattr(torch, "empty_like", filled)


def without(folder, words, target):
    """Copy a checkpoint without the tensors whose name has one of `words`. Return what is left."""
    state = load_file(folder / "model.safetensors")
    left = {name: tensor for name, tensor in state.items() if not any(word in name for word in words)}
    assert len(left) < len(state)
    save_file(left, target / "model.safetensors", metadata={"format": "pt"})
    (target / "config.json").write_bytes((folder / "config.json").read_bytes())
    return left


def new_trunk(name):
    architecture, model_args = TRUNKS[name]
    return timm.create_model(architecture, num_classes=0, in_chans=3, **model_args)


@pytest.mark.parametrize(
    ("trunk", "words"),
    [
        ("vit", ["pos_embed"]),
        ("vit", ["trunk"]),
        ("conv", ["running_", "num_batches_tracked"]),
        ("conv", ["stages.0", "bn"]),
        ("hybrid", ["trunk"]),
        ("swin", ["relative_position_bias_table", "qkv"]),
    ],
)
@pytest.mark.parametrize("loader", [TimmCLIPModel, AutoModel])
def test_a_trunk_starts_as_timm_starts_it(trunk, words, loader, folders, tmp_path, used_memory):
    left = without(folders[trunk], words, tmp_path)
    torch.manual_seed(5)
    model = loader.from_pretrained(tmp_path)
    torch.manual_seed(5)
    new = {f"vision_model.trunk.{name}": tensor for name, tensor in new_trunk(trunk).state_dict().items()}
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, left[name] if name in left else new[name]), name
    constants = dict(new_trunk(trunk).named_buffers())
    for name, buffer in model.vision_model.trunk.named_buffers():
        if f"vision_model.trunk.{name}" not in left:
            assert torch.equal(buffer, constants[name]), name


def test_projections_and_scale_start_as_in_a_new_student(folders, tmp_path, used_memory):
    for lacking in ("visual_projection", "text_projection", "logit_scale"):
        without(folders["conv"], [lacking], tmp_path)
        model = TimmCLIPModel.from_pretrained(tmp_path)
        if lacking == "logit_scale":
            assert model.logit_scale.item() == pytest.approx(model.config.logit_scale_init_value)
        else:
            weight = getattr(model, lacking).weight
            assert weight.std().item() == pytest.approx(weight.shape[1] ** -0.5, rel=0.1)


def test_a_text_tower_starts_as_clip_starts_it(folders, tmp_path, used_memory):
    without(folders["conv"], ["text_model"], tmp_path)
    model = TimmCLIPModel.from_pretrained(tmp_path)
    stock = CLIPTextModel(model.config.text_config).state_dict()
    for name, tensor in model.text_model.state_dict().items():
        assert tensor.std(correction=0).item() == pytest.approx(stock[name].std(correction=0).item(), rel=0.1), name


def test_a_complete_checkpoint_builds_one_trunk_and_draws_nothing(folders, monkeypatch, used_memory):
    built = []
    create_model = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: built.append(a) or create_model(*a, **k))
    state = torch.get_rng_state()
    TimmCLIPModel.from_pretrained(folders["swin"])
    assert len(built) == 1 and torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("trunk", TRUNKS)
def test_a_model_from_the_meta_device(trunk, folders):
    config = TimmCLIPModel.config_class.from_pretrained(folders[trunk])
    with torch.device("meta"):
        model = TimmCLIPModel(config)
    model.to_empty(device="cpu")
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data.fill_(float("nan") if tensor.is_floating_point() else -7)
    model.init_weights()
    torch.manual_seed(0)
    new = TimmVisionModel(config.vision_config)
    for (name, tensor), fresh in zip(model.vision_model.trunk.named_parameters(), new.trunk.parameters(), strict=True):
        assert tensor.std(correction=0).item() == pytest.approx(fresh.std(correction=0).item(), rel=0.3, abs=1e-3), (
            name
        )
    buffers = dict(new.trunk.named_buffers())
    assert all(torch.equal(tensor, buffers[name]) for name, tensor in model.vision_model.trunk.named_buffers())
    assert all(tensor.isfinite().all() for tensor in model.parameters())


def test_another_resolution(folders, used_memory):
    folder = folders["vit"]
    config = TimmCLIPModel.config_class.from_pretrained(folder)
    config.vision_config.image_size = config.vision_config.model_args["img_size"] = 2 * SIDE
    with pytest.raises(ValueError, match=r"lack 1 tensors .*pos_embed, of shape \(1, 17, 32\) instead of .*65.* Save"):
        load_clip(folder, config=config)
    model, _ = load_clip(folder, config=config, ignore_mismatched_sizes=True)
    assert model.vision_model.trunk.pos_embed.std().item() == pytest.approx(0.02, rel=0.1)  # timm's
    assert model.get_image_features(torch.zeros(1, 3, 2 * SIDE, 2 * SIDE)).pooler_output.isfinite().all()


@pytest.mark.parametrize("trunk", ["vit", "conv"])
@pytest.mark.parametrize("wanted", [[0], [0, -1], (0, 1), 1])
def test_a_dual_encoder_selects_entries_of_both_towers(trunk, wanted, folders):
    model = TimmCLIPModel.from_pretrained(folders[trunk]).eval()
    inputs = {"input_ids": torch.tensor([[1, 2, 599]]), "pixel_values": torch.zeros(1, 3, SIDE, SIDE)}
    every, some = model(**inputs, output_hidden_states=True), model(**inputs, output_hidden_states=wanted)
    for tower in ("text_model_output", "vision_model_output"):
        full, found = every[tower].hidden_states, some[tower].hidden_states
        kept = {entry % len(full) for entry in ([wanted] if isinstance(wanted, int) else wanted)}
        for entry, state in enumerate(found):
            if entry in kept and full[entry] is not None:
                assert torch.equal(state, full[entry])
            else:
                assert state is None
