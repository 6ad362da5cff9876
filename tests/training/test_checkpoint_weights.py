"""Resumed weights: each of them comes from the checkpoint, or the run does not begin."""

import llava_runs
import pytest
import torch
from miniature import make_clip, make_trainer
from safetensors.torch import load_file, save_file

from hf_clip_kd.training.checkpoint_weights import load_weights


def spoil(folder, change, name="model.safetensors"):
    file = folder / name
    save_file(change(load_file(file)), file, {"format": "pt"})


def lacking(state):
    return {name: value for name, value in state.items() if "projection" not in name and "projector" not in name}


def narrow(state):
    return {name: value[:1].clone() if "projection" in name else value for name, value in state.items()}


@pytest.mark.parametrize("change", [lacking, narrow])
def test_weights_that_a_checkpoint_lacks_are_named(change, tmp_path):
    make_clip().save_pretrained(tmp_path)
    model = make_clip(seed=1)
    load_weights(model, str(tmp_path))
    assert torch.equal(model.visual_projection.weight, make_clip().visual_projection.weight)
    spoil(tmp_path, change)
    with pytest.raises(ValueError, match="lack 2 tensors of CLIPModel .*text_projection"):
        load_weights(model, str(tmp_path))


def test_a_scale_that_is_known_from_elsewhere_may_have_another_shape(tmp_path):
    make_clip().save_pretrained(tmp_path)
    spoil(tmp_path, lambda state: state | {"logit_scale": state["logit_scale"].reshape(1)})
    with pytest.raises(ValueError, match="lack 1 tensors of CLIPModel .*logit_scale, of shape"):
        load_weights(make_clip(), str(tmp_path))
    model = make_clip(seed=1)
    before = model.logit_scale.item()
    load_weights(model, str(tmp_path), elsewhere=("logit_scale",))
    assert model.logit_scale.item() == before
    assert torch.equal(model.visual_projection.weight, make_clip().visual_projection.weight)


RUNS = {
    "student": lambda folder: make_trainer(folder, teacher=False, losses={"clip": 1.0}),
    "llava": lambda folder: llava_runs.make_trainer(folder, *llava_runs.make_model()),
    "lora": lambda folder: llava_runs.make_trainer(folder, *llava_runs.make_model(), lora={"r": 4}),
}


@pytest.mark.parametrize("kind", RUNS)
def test_trainers_refuse_a_checkpoint_that_lacks_weights(kind, tmp_path):
    make = RUNS[kind]
    make(tmp_path).save_model(str(tmp_path))
    make(tmp_path)._load_from_checkpoint(str(tmp_path))
    spoil(tmp_path, lacking, "adapter_model.safetensors" if kind == "lora" else "model.safetensors")
    with pytest.raises(ValueError, match="lack .* tensors of"):
        make(tmp_path)._load_from_checkpoint(str(tmp_path))
