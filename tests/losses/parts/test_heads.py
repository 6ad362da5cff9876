"""Heads of losses against torch's own modules."""

import pytest
import torch
from torch import nn

from hf_clip_kd.losses import LOSSES
from hf_clip_kd.losses.base import Projection
from hf_clip_kd.losses.features import CLIPDims
from hf_clip_kd.losses.parts.heads import MLPHead, build_head


def test_mlp_head_is_linear_norm_gelu_linear():
    torch.manual_seed(0)
    head, x = MLPHead(5, 7, 3).double(), torch.randn(2, 4, 5, dtype=torch.float64)
    twin = nn.Sequential(nn.Linear(5, 7, bias=False), nn.LayerNorm(7), nn.GELU(), nn.Linear(7, 3, bias=False)).double()
    with torch.no_grad():
        head[1].weight.uniform_(), head[1].bias.uniform_()
    twin.load_state_dict(head.state_dict(), strict=True)
    assert torch.equal(head(x), twin(x))


def test_mlp_head_of_halves_computes_in_the_type_of_its_input():
    torch.manual_seed(0)
    head, x = MLPHead(5, 7, 3).bfloat16(), torch.randn(2, 5)
    value = head(x)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, MLPHead.float(head)(x))  # The weights are rounded, the computation is not.


def test_which_head_stands_between_two_widths():
    assert isinstance(build_head(4, 4, None), nn.Identity)
    linear = build_head(4, 6, None)
    assert type(linear) is Projection and linear.bias is not None and linear.weight.shape == (6, 4)
    for width in (4, 6):
        head = build_head(width, 6, 9)
        assert [tuple(p.shape) for p in head.parameters()] == [(9, width), (9,), (9,), (6, 9)]
    assert build_head(4, 6, "teacher")[0].weight.shape == (6, 4)


@pytest.mark.parametrize("hidden", [0, -1, 2.0, True, "student"])
def test_hidden_dim_that_is_no_width(hidden):
    dims = CLIPDims(4, token_dim=4)
    with pytest.raises(
        ValueError, match=r"hidden_dim=.* is no width of the head of the loss 'patch'.*'teacher'.*3072"
    ):
        LOSSES["patch"](dims, dims, hidden_dim=hidden)
