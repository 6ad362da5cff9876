"""The wrapped module with losses that read several layers and class tokens."""

import pytest
import torch
from every_loss import make_run
from miniature import logs, make_clip
from safetensors.torch import load_file
from teacher_models import tiny_siglip

from hf_clip_kd.distillation.model import DistillationModel, gather_features
from hf_clip_kd.losses.features import CLIPDims

LOSSES = {
    "patch": {
        "pairs": [[-2, -2], [-1, -3, 0.5]],
        "hidden_dim": 6,
        "statistics": 3,
        "summary": "class_token",
        "grid": "larger",
        "interpolation": "bicubic",
    },
    "relation": {"level": "tokens", "form": "kl", "layer": -1},
}
TEACHER = CLIPDims(24, token_dims=((-3, 32), (-2, 32)))


def test_student_features_of_several_layers():
    student = make_clip()
    model, pixels, ids = DistillationModel(student, LOSSES, TEACHER), torch.randn(3, 3, 16, 16), torch.full((3, 6), 39)
    features = model.student_features(pixels, ids)
    states = student.vision_model(pixels, output_hidden_states=True).hidden_states
    assert features.image_tokens is features.class_token is None
    for layer, found in features.layers.items():
        assert torch.equal(found.image_tokens, states[layer][:, 1:]) and found.image_grid == (2, 2)
        assert torch.equal(found.class_token, states[layer][:, 0])
    assert list(features.layers) == [-2, -1] and model.student_dims.token_dims == ((-2, 16), (-1, 16))
    # A single process gathers nothing.
    gathered = gather_features(features)
    assert all(gathered.tensors()[name] is value for name, value in features.tensors().items())


def test_a_student_without_class_token():
    with pytest.raises(ValueError, match="SiglipModel .* has no class token.*'summary': 'image_embeds'"):
        DistillationModel(tiny_siglip()[0], LOSSES, TEACHER)


def test_a_resumed_run_is_the_undisturbed_one(tmp_path):
    """Heads, statistics and their counts are in the checkpoint, and not in the student."""
    options = {"losses": LOSSES, "save_strategy": "steps", "save_steps": 2, "learning_rate": 0.01}
    whole = make_run(tmp_path, [], **options)
    whole.train()
    resumed = make_run(tmp_path / "resumed", [], **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert logs(resumed, "loss") == logs(whole, "loss")
    state = resumed.model.state_dict()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, state[name]), name
    middle = load_file(tmp_path / "checkpoint-2/losses.safetensors")
    assert middle["losses.terms.patch.statistics.1.seen"] == 2 and state["losses.terms.patch.statistics.1.seen"] == 3
    assert not [name for name in load_file(tmp_path / "checkpoint-2/model.safetensors") if "patch" in name.split(".")]
