"""The adapter of tokens, against the same layers of torch."""

import torch
import torch.nn.functional as F
from torch import nn

from hf_clip_kd.losses.adapter import Adapter


def test_is_two_layers_and_a_change_of_grid():
    torch.manual_seed(0)
    adapter, tokens = Adapter(5, 7, 12), torch.randn(2, 16, 5)
    plain = nn.Sequential(nn.Linear(5, 12), nn.LayerNorm(12), nn.GELU(), nn.Linear(12, 7))
    plain.load_state_dict(dict(zip(plain.state_dict(), adapter.state_dict().values(), strict=True)))
    torch.testing.assert_close(adapter(tokens, (4, 4), (4, 4)), plain(tokens))
    halved = F.avg_pool2d(plain(tokens).transpose(1, 2).unflatten(2, (4, 4)), 2).flatten(2).transpose(1, 2)
    coarse = adapter(tokens, (4, 4), (2, 2))
    assert coarse.shape == (2, 4, 7)
    # The resampling has a wider filter than the mean of four. A constant map stays constant under both.
    same = tokens[:, :1].expand(-1, 16, -1)
    torch.testing.assert_close(adapter(same, (4, 4), (2, 2)), plain(same)[:, :4])
    assert (coarse - halved).abs().max() < (coarse - coarse.flip(1)).abs().max()
