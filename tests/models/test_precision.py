"""Types of weights under training."""

import logging

import pytest
import torch
from text_families import clip
from transformers import AutoModel, CLIPVisionModel

from hf_clip_kd.models.precision import set_precision, warn_of_half_precision


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_becomes_float32_in_all_parts_and_their_configurations(dtype, tmp_path, caplog):
    clip().to(dtype).save_pretrained(tmp_path / "half")
    model = AutoModel.from_pretrained(tmp_path / "half")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert model.dtype == dtype
    with caplog.at_level(logging.WARNING):
        set_precision(model, "float32")
    name = str(dtype).removeprefix("torch.")
    assert f"weights are {name}, and are trained and saved as float32" in caplog.text
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}
    for key, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor.to(before[key].dtype), before[key], rtol=0, atol=0)
    model.save_pretrained(tmp_path / "trained")
    assert AutoModel.from_pretrained(tmp_path / "trained").dtype == torch.float32
    assert CLIPVisionModel.from_pretrained(tmp_path / "trained").dtype == torch.float32


def test_full_precision_stays_and_half_precision_comes_when_asked_for(caplog):
    for dtype in (torch.float32, torch.float64):
        model = clip().to(dtype)
        set_precision(model, "float32")
        assert model.dtype == dtype and not caplog.text
    set_precision(model, "bfloat16")
    assert model.dtype == torch.bfloat16 and "float64, and are trained and saved as bfloat16" in caplog.text


def test_only_weights_that_learn_are_worth_a_warning(caplog):
    model = clip().to(torch.bfloat16).requires_grad_(False)
    warn_of_half_precision(model)
    assert not caplog.text
    model.text_projection.requires_grad_(True)
    warn_of_half_precision(model)
    assert "weights that learn are bfloat16" in caplog.text
    warn_of_half_precision(model.float())
    assert len(caplog.records) == 1
