"""Checkpoints in the layouts of other projects, each made from a model of open_clip, give that model's embeddings."""

import json
import re

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from teacher_models import images, tiny_clip
from timm.utils.model import reparameterize_model
from transformers import CLIPModel

from hf_clip_kd import CLIPTeacher
from hf_clip_kd.export import export_model
from hf_clip_kd.export.importing import import_checkpoint
from hf_clip_kd.models import TimmCLIPModel, load_clip
from hf_clip_kd.models.towers.tokens import pooled
from recipes import import_checkpoint as recipe

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}
VIT = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
    "text_cfg": TEXT,
}
# The smallest trunk of MobileCLIP, on small images and with a small text tower.
MOBILE = {
    "embed_dim": 32,
    "vision_cfg": {"timm_model_name": "fastvit_mci0", "timm_pool": "avg", "timm_proj": None, "image_size": 64},
    "text_cfg": TEXT,
    "custom_text": True,
}
TEXTS = ["a photo of a red circle", "two small dogs on a hill"]


def build(config):
    config = {key: value for key, value in config.items() if key != "custom_text"}
    torch.manual_seed(0)
    model = (open_clip.CustomTextCLIP if "timm_model_name" in config["vision_cfg"] else open_clip.CLIP)(**config)
    for name, parameter in model.named_parameters():
        if name != "logit_scale" and not name.endswith("head.fc.bias"):
            parameter.data.add_(0.02 * torch.randn_like(parameter))
    model.logit_scale.data.fill_(3.3)
    return model.eval()


@torch.no_grad()
def assert_same_embeddings(model, folder, model_class, mean=None):
    """Compare the imported model, with its own processor, with the original and with open_clip's."""
    student, processor = load_clip(folder)
    assert type(student) is model_class
    size = student.config.vision_config.image_size
    pixels = processor.image_processor(images(2, (size, size)), return_tensors="pt")["pixel_values"]
    if mean is not None:
        assert list(processor.image_processor.image_mean) == mean
    close = {"atol": 1e-5, "rtol": 1e-4}
    torch.testing.assert_close(pooled(student.get_image_features(pixels)), model.encode_image(pixels), **close)
    ids = processor.tokenizer(TEXTS, padding=True, return_tensors="pt")["input_ids"]
    expected = model.encode_text(open_clip.tokenize(TEXTS))
    torch.testing.assert_close(pooled(student.get_text_features(ids)), expected, **close)
    assert student.logit_scale.item() == pytest.approx(3.3)


def clip_kd(model):
    state = {f"module.{key}": value for key, value in model.state_dict().items()}
    return {"epoch": 32, "name": "run", "state_dict": state, "optimizer": {"state": {}, "param_groups": []}}


def tinyclip(model):
    """One encoder per tower, each in DistributedDataParallel, as https://github.com/wkcn/TinyCLIP saves them."""
    state = {}
    for key, value in model.state_dict().items():
        encoder = "image" if key.startswith("visual.") else "logit" if key == "logit_scale" else "text"
        name = "_logit_scale" if encoder == "logit" else f"_{encoder}_encoder.module"
        state[f"module.{name}.{key}"] = value
    return {"state_dict": state, "epoch": 1}


def mobileclip(model):
    """Apple's names, https://github.com/apple/ml-mobileclip: mobileclip/models/mci.py and text_encoder.py."""
    stage = {"0.blocks": "0", "1.blocks": "2", "2.blocks": "4", "3.blocks": "7", "3.pos_emb.pos_enc": "6.pe"}
    stage |= {f"{index}.downsample": str(2 * index - 1) for index in (1, 2, 3)}
    trunk_names = [
        (r"^stages\.(\d\.(?:blocks|downsample|pos_emb\.pos_enc))", lambda found: f"network.{stage[found[1]]}"),
        (r"^stem", "patch_embed"),
        (r"conv_kxk", "rbr_conv"),
        (r"conv_scale", "rbr_scale"),
        (r"\bidentity\b", "rbr_skip"),
        (r"^final_conv", "conv_exp"),
        (r"large_conv", "lkb_origin"),
        (r"\bmlp\b", "convffn"),
        (r"se\.fc1", "se.reduce"),
        (r"se\.fc2", "se.expand"),
        (r"(layer_scale(_\d)?)\.gamma", r"\1"),
        (r"^head\.fc\.weight", "head.proj"),
    ]
    text_names = [
        (r"resblocks\.", ""),
        (r"ln_1", "pre_norm_mha.0"),
        (r"attn\.in_proj_", "pre_norm_mha.1.qkv_proj."),
        (r"attn\.out_proj", "pre_norm_mha.1.out_proj"),
        (r"ln_2", "pre_norm_ffn.0"),
        (r"mlp\.c_fc", "pre_norm_ffn.1"),
        (r"mlp\.c_proj", "pre_norm_ffn.4"),
        (r"token_embedding", "embedding_layer"),
        (r"^positional_embedding", "positional_embedding.pos_embed.pos_embed"),
        (r"ln_final", "final_layer_norm"),
        (r"text_projection", "projection_layer"),
    ]
    state = {"logit_scale": model.logit_scale.detach()}
    for key, value in model.visual.trunk.state_dict().items():
        if key == "head.fc.bias":
            continue
        value = value.T.contiguous() if key == "head.fc.weight" else value
        state[f"image_encoder.model.{renamed(key, trunk_names)}"] = value
    for key, value in model.text.state_dict().items():
        value = value[None, None] if key == "positional_embedding" else value
        state[f"text_encoder.{renamed(key, text_names)}"] = value
    return state


def renamed(key, names):
    for pattern, name in names:
        key = re.sub(pattern, name, key)
    return key


@pytest.mark.parametrize(
    ("layout", "wrap"),
    [("open_clip", lambda model: model.state_dict()), ("clip_kd", clip_kd), ("tinyclip", tinyclip)],
    ids=["open_clip", "clip_kd", "tinyclip"],
)
def test_vit(layout, wrap, tmp_path):
    model = build(VIT)
    torch.save(wrap(model), tmp_path / "file.pt")
    name = import_checkpoint(tmp_path / "file.pt", tmp_path / "out", layout)
    assert name == str(tmp_path / "out")
    assert_same_embeddings(model, name, CLIPModel)


def test_architecture_says_quick_gelu(tmp_path):
    config = VIT | {"quick_gelu": True}
    model = build(config)
    save_file(model.state_dict(), tmp_path / "file.safetensors")
    (tmp_path / "arch.json").write_text(json.dumps(config))
    name = import_checkpoint(tmp_path / "file.safetensors", tmp_path / "out", "open_clip", tmp_path / "arch.json")
    assert load_clip(name)[0].config.text_config.hidden_act == "quick_gelu"
    assert_same_embeddings(model, name, CLIPModel)


@pytest.mark.parametrize("folded", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["as trained", "folded"])
def test_mobileclip(folded, tmp_path):
    model = build(MOBILE)
    expected = build(MOBILE)
    if folded:
        model.visual.trunk = reparameterize_model(model.visual.trunk)
    torch.save(mobileclip(model), tmp_path / "file.pt")
    (tmp_path / "arch.json").write_text(json.dumps(MOBILE))
    name = import_checkpoint(tmp_path / "file.pt", tmp_path / "out", "mobileclip", tmp_path / "arch.json")
    assert_same_embeddings(model if folded else expected, name, TimmCLIPModel, mean=[0.0, 0.0, 0.0])


def write_hub_folder(folder, model, config, **pixels):
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": pixels}))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")


def test_folder_of_open_clip(tmp_path):
    config = VIT | {"vision_cfg": {"timm_model_name": "test_resnet", "timm_pool": "avg", "image_size": 64}}
    model = build(config)
    mean = [0.1, 0.2, 0.3]
    config["custom_text"] = True
    write_hub_folder(tmp_path / "hub", model, config, mean=mean, std=[1.0] * 3, interpolation="bilinear")
    name = import_checkpoint(tmp_path / "hub", tmp_path / "out", "mobileclip")
    assert_same_embeddings(model, name, TimmCLIPModel, mean=mean)


@torch.no_grad()
def test_text_tower_that_reads_in_both_directions_stays_open_clips(tmp_path):
    """MobileCLIP-S1 and its like: with the pixels of MobileCLIP, which open_clip does not know of Apple's file."""
    config = MOBILE | {"text_cfg": TEXT | {"no_causal_mask": True}}
    model = build(config)
    torch.save(mobileclip(model), tmp_path / "file.pt")
    (tmp_path / "arch.json").write_text(json.dumps(config))
    name = import_checkpoint(tmp_path / "file.pt", tmp_path / "out", "mobileclip", tmp_path / "arch.json")
    assert name == f"open_clip:local-dir:{tmp_path / 'out'}"
    teacher = CLIPTeacher(name)
    pictures = images(2, (64, 64))
    pixels = teacher.processor.image_processor(pictures, return_tensors="pt")["pixel_values"]
    assert 0 <= pixels.min() and pixels.max() <= 1
    torch.testing.assert_close(teacher.model.encode_image(pixels), model.encode_image(pixels))
    ids = teacher.processor.tokenizer(TEXTS)["input_ids"]
    torch.testing.assert_close(teacher.model.encode_text(ids), model.encode_text(ids))


def test_folder_of_transformers(tmp_path):
    """TinyCLIP as it lies on the Hub."""
    model, processor = tiny_clip()
    model.save_pretrained(tmp_path / "hub")
    processor.save_pretrained(tmp_path / "hub")
    name = import_checkpoint(tmp_path / "hub", tmp_path / "out", "tinyclip")
    imported = load_clip(name)[0].state_dict()
    assert all(torch.equal(value, imported[key]) for key, value in model.state_dict().items())


def test_recipe_names_the_model(tmp_path, capsys):
    torch.save(build(VIT).state_dict(), tmp_path / "file.pt")
    name = recipe.main([str(tmp_path / "file.pt"), str(tmp_path / "out"), "--format", "clip_kd"])
    assert name in capsys.readouterr().out and load_clip(name)


def save(tmp_path, state):
    torch.save(state, tmp_path / "file.pt")
    return tmp_path / "file.pt"


@pytest.mark.parametrize(
    ("change", "layout", "match"),
    [
        (
            lambda state: state,
            "laclip",
            "layout='laclip' .* is unknown. Allowed are open_clip, clip_kd.*. A checkpoint",
        ),
        (lambda state: {"a": torch.ones(1)}, "clip_kd", "is none of layout='clip_kd': its weights are called a, "),
        (lambda state: [1, 2], "clip_kd", "holds no weights by name. Allowed is a state dict.*. Save"),
        (
            lambda state: {**state, "extra": torch.ones(1)},
            "open_clip",
            "do not fit the architecture .*extra.*. Allowed",
        ),
        (
            # A pruned model, as TinyCLIP's automatic inheritance gives.
            lambda state: {
                key: value[:100] if key.endswith("1.mlp.c_fc.weight") else value for key, value in state.items()
            },
            "open_clip",
            "do not fit the architecture .*. Allowed are models whose layers all have the same sizes",
        ),
        (
            lambda state: {key: value for key, value in state.items() if key != "visual.proj"},
            "open_clip",
            "architecture=None, .* have no visual.proj. Sizes .* alone. Pass architecture",
        ),
    ],
)
def test_what_cannot_be_imported(change, layout, match, tmp_path):
    path = save(tmp_path, change(build(VIT).state_dict()))
    with pytest.raises(ValueError, match=match):
        import_checkpoint(path, tmp_path / "out", layout)
    assert not (tmp_path / "out").exists() and [path.name for path in tmp_path.iterdir()] == ["file.pt"]


class Payload:
    def __reduce__(self):
        return (pytest.fail, ("code of a pickle ran",))


def test_code_in_a_pickle_does_not_run(tmp_path):
    path = save(tmp_path, {"logit_scale": Payload()})
    with pytest.raises(ValueError, match="cannot be read .*. Allowed are .safetensors files and pickles of tensors"):
        import_checkpoint(path, tmp_path / "out", "clip_kd")


def test_mobileclip_s0_has_convolutions_in_its_text_tower(tmp_path):
    state = {"logit_scale": torch.ones(()), "image_encoder.model.a": torch.ones(1)}
    path = save(tmp_path, state | {"text_encoder.transformer.0.token_mixer.conv.weight": torch.ones(1)})
    with pytest.raises(ValueError, match="is a MobileCLIP-S0, whose text tower has convolutions. Allowed .*. Take"):
        import_checkpoint(path, tmp_path / "out", "mobileclip", "MobileCLIP-S1")


@pytest.mark.parametrize("name", ["nothing.pt", "somebody/some-clip"])
def test_checkpoint_that_is_not_there(name, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=f"checkpoint='{name}' is not there .*. Allowed .*. Check the path"):
        import_checkpoint(name, tmp_path / "out", "open_clip")


def test_our_own_export_comes_back(tmp_path):
    """A small vocabulary, whose tokenizer lies in the folder."""
    model, processor = tiny_clip("gelu")
    model.save_pretrained(tmp_path / "run")
    processor.save_pretrained(tmp_path / "run")
    export_model(tmp_path / "run", tmp_path / "out", ["open_clip"])
    name = import_checkpoint(tmp_path / "out", tmp_path / "again", "open_clip")
    again, their_processor = load_clip(name)
    assert their_processor.tokenizer(TEXTS)["input_ids"] == processor.tokenizer(TEXTS)["input_ids"]
    state = model.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in again.state_dict().items())


def test_unknown_architecture_and_full_folder(tmp_path):
    path = save(tmp_path, build(VIT).state_dict())
    with pytest.raises(
        ValueError, match="architecture='ViT-Q' is neither a file nor known .*. Allowed .*. Leave it out"
    ):
        import_checkpoint(path, tmp_path / "out", "open_clip", "ViT-Q")
    with pytest.raises(ValueError, match="holds files already. Allowed .*. Take another"):
        import_checkpoint(path, tmp_path, "open_clip")
