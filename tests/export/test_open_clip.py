"""The open_clip format loads by open_clip alone, with the same embeddings, pixels and token ids."""

import json

import open_clip
import pytest
import torch
from export_students import VIT, student
from teacher_models import TEXTS, images, tiny_clip

from hf_clip_kd.export import export_model
from hf_clip_kd.export.importing import import_checkpoint
from hf_clip_kd.models import load_clip
from hf_clip_kd.models.towers.tokens import pooled


def saved(folder, model, processor):
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture
def run(tmp_path, request):
    kind = request.param
    if kind == "timm":
        torch.manual_seed(0)
        return saved(tmp_path / "run", *load_clip("test-resnet"))
    if kind == "pre-norm":
        return saved(tmp_path / "run", *student(tmp_path, "vit_base_patch16_clip_quickgelu_224", **VIT))
    model, processor = tiny_clip(kind, processor_length=77)
    model.config.vision_config.layer_norm_eps = model.config.text_config.layer_norm_eps = 1e-6
    processor.image_processor.image_mean = [0.1, 0.2, 0.3]
    return saved(tmp_path / "run", model, processor)


@pytest.mark.parametrize("run", ["gelu", "quick_gelu", "pre-norm", "timm"], indirect=True)
@torch.no_grad()
def test_same_as_the_student(run, tmp_path):
    export_model(run, tmp_path / "out", ["open_clip"])
    model, processor = load_clip(run)
    theirs, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'out'}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'out'}")
    # An even margin: of an odd one the two crop a pixel apart.
    pictures = images(2, (40, 60))
    pixels = processor.image_processor(pictures, return_tensors="pt")["pixel_values"]
    assert torch.equal(torch.stack([transform(picture) for picture in pictures]), pixels)
    length = model.config.text_config.max_position_embeddings
    ids = processor.tokenizer(TEXTS, padding="max_length", max_length=length, truncation=True, return_tensors="pt")[
        "input_ids"
    ]
    assert torch.equal(tokenizer(TEXTS), ids)
    close = {"atol": 1e-5, "rtol": 1e-5}
    theirs.eval()
    torch.testing.assert_close(theirs.encode_image(pixels), pooled(model.get_image_features(pixels)), **close)
    torch.testing.assert_close(theirs.encode_text(ids), pooled(model.get_text_features(ids)), **close)
    assert theirs.logit_scale == model.logit_scale


def test_hub_finds_the_tokenizer_by_the_repository(tmp_path):
    run = saved(tmp_path / "run", *tiny_clip("gelu"))
    export_model(run, tmp_path / "out", ["open_clip"], repo_id="me/student")
    config = json.loads((tmp_path / "out" / "open_clip_config.json").read_text())
    assert config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] == "me/student"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda model, processor: setattr(model.config.text_config, "hidden_act", "gelu"),
            "open_clip has one for both",
        ),
        (
            lambda model, processor: setattr(processor.image_processor, "size", {"shortest_edge": 40}),
            "resized to .*shortest_edge.*open_clip resizes to the 32",
        ),
        (lambda model, processor: setattr(processor.image_processor, "resample", 1), "filter 1"),
    ],
)
def test_refused_with_its_reason(change, reason, tmp_path):
    model, processor = tiny_clip("quick_gelu")
    change(model, processor)
    run = saved(tmp_path / "run", model, processor)
    with pytest.raises(ValueError, match=f"cannot be exported as 'open_clip': .*{reason}.*. Allowed .*. Leave"):
        export_model(run, tmp_path / "out", ["open_clip"])
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_trunk_with_arguments_is_refused(tmp_path):
    run = saved(tmp_path / "run", *student(tmp_path, **VIT))
    with pytest.raises(ValueError, match="open_clip builds vit_tiny_patch16_224 otherwise"):
        export_model(run, tmp_path / "out", ["open_clip"])


# ---- Hub ----


REPO = "me/student"


def on_hub(hub, tmp_path, formats):
    """A tiny student and its processor, whose export lies on the Hub."""
    model, processor = tiny_clip("gelu")
    model.save_pretrained(tmp_path / "run")
    processor.save_pretrained(tmp_path / "run")
    out = tmp_path / "out"
    export_model(tmp_path / "run", out, formats, repo_id=REPO)
    files = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    hub.seed(REPO, files)
    return model, processor


@torch.no_grad()
def test_open_clip_by_hub_name(hub, tmp_path):
    model, processor = on_hub(hub, tmp_path, ["open_clip"])
    theirs, _, transform = open_clip.create_model_and_transforms(f"hf-hub:{REPO}")
    picture = images(1, (40, 60))[0]
    pixels = processor.image_processor(picture, return_tensors="pt")["pixel_values"]
    assert torch.equal(transform(picture)[None], pixels)
    ids = processor.tokenizer(TEXTS, padding="max_length", max_length=77, return_tensors="pt")["input_ids"]
    assert torch.equal(open_clip.get_tokenizer(f"hf-hub:{REPO}")(TEXTS), ids)
    close = {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(theirs.eval().encode_image(pixels), pooled(model.get_image_features(pixels)), **close)
    torch.testing.assert_close(theirs.encode_text(ids), pooled(model.get_text_features(ids)), **close)
    # The export is read back as a checkpoint, by its name.
    state = load_clip(import_checkpoint(REPO, tmp_path / "again", "open_clip"))[0].state_dict()
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
