"""Resumed weights: each of them comes from the checkpoint, or the run does not begin."""

import llava_runs
import pytest
import torch
from miniature import make_clip, make_trainer
from safetensors.torch import load_file, save_file

from hf_clip_kd.training.checkpoint_weights import load_weights


def spoil(folder, change):
    file = folder / "model.safetensors"
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
    with pytest.raises(ValueError, match="fit text_projection.weight, visual_projection.weight of CLIP"):
        load_weights(model, str(tmp_path))


def test_a_scale_that_is_known_from_elsewhere_may_have_another_shape(tmp_path):
    make_clip().save_pretrained(tmp_path)
    spoil(tmp_path, lambda state: state | {"logit_scale": state["logit_scale"].reshape(1)})
    with pytest.raises(ValueError, match="no weights that fit logit_scale of"):
        load_weights(make_clip(), str(tmp_path))
    model = make_clip(seed=1)
    before = model.logit_scale.item()
    load_weights(model, str(tmp_path), elsewhere=("logit_scale",))
    assert model.logit_scale.item() == before
    assert torch.equal(model.visual_projection.weight, make_clip().visual_projection.weight)


def test_both_trainers_refuse_a_checkpoint_that_lacks_weights(tmp_path):
    runs = {
        "student": lambda: make_trainer(tmp_path / "student", teacher=False, losses={"clip": 1.0}),
        "llava": lambda: llava_runs.make_trainer(tmp_path / "llava", *llava_runs.make_model()),
    }
    for name, make in runs.items():
        make().save_model(str(tmp_path / name))
        spoil(tmp_path / name, lacking)
        with pytest.raises(ValueError, match="has no weights that fit"):
            make()._load_from_checkpoint(str(tmp_path / name))
