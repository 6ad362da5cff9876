"""Weights that a checkpoint lacks are refused, wherever this package or a recipe loads a model of transformers."""

import ast
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPModel

from hf_clip_kd.models import load_clip
from hf_clip_kd.models.completeness import load_complete

ROOT = Path(__file__).parents[2]
# An adapter lacks the weights of its model, and PEFT finds each of its own.
OTHERS = {"PeftModel"}


@pytest.fixture
def folder(tmp_path):
    model, _ = load_clip("test-vit")
    model.save_pretrained(tmp_path)
    return tmp_path


def change(folder, name, change):
    state = load_file(folder / "model.safetensors")
    state = {key: change(tensor) if key == name else tensor for key, tensor in state.items()}
    state = {key: tensor for key, tensor in state.items() if tensor is not None}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_missing_tensor(folder):
    change(folder, "visual_projection.weight", lambda tensor: None)
    match = r"The weights of '.*' lack 1 tensors of CLIPModel \(such as visual_projection.weight\).*random. A\. B\."
    for sizes in (False, True):
        with pytest.raises(ValueError, match=match):
            load_complete(CLIPModel, str(folder), "A. B.", ignore_mismatched_sizes=sizes)


def test_a_tensor_of_another_shape(folder):
    change(folder, "text_projection.weight", lambda tensor: tensor[:3].clone())
    match = (
        r"lack 1 tensors of CLIPModel \(such as text_projection.weight, of shape \(3, \d+\) instead of \(\d+, \d+\)\)"
    )
    with pytest.raises(ValueError, match=match):
        load_complete(CLIPModel, str(folder), "A. B.")
    model = load_complete(CLIPModel, str(folder), "A. B.", ignore_mismatched_sizes=True)
    assert model.text_projection.weight.isfinite().all()


def test_complete_weights(folder):
    model = load_complete(CLIPModel, str(folder), "A. B.", dtype=torch.float64)
    assert model.dtype == torch.float64


def calls():
    """The calls of `from_pretrained` that load a model, with their place."""
    for path in sorted([*(ROOT / "hf_clip_kd").rglob("*.py"), *(ROOT / "recipes").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", None) == "from_pretrained":
                owner = ast.unparse(node.func.value)
                if "model" in owner.lower() and owner not in OTHERS:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", ast.unparse(node)


def test_every_loader_of_a_model_asks_for_the_report():
    found = dict(calls())
    assert len(found) >= 6
    assert [place for place, call in found.items() if "REPORTED" not in call] == []
