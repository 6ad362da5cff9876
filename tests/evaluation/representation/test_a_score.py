"""A score: cosines by hand, a map that is known, and tokens that say nothing."""

import pytest
import torch

from hf_clip_kd.evaluation.representation import AScore
from hf_clip_kd.evaluation.representation.a_score import comparable, nearest_cosines, regrid


def scored(tokens, reference, batch=16):
    score = AScore(len(tokens))
    for mine, theirs in zip(tokens.split(batch), reference.split(batch), strict=True):
        score.update(mine, theirs)
    return score.compute()


def test_the_nearest_token_counts():
    tokens = torch.tensor([[[2.0, 0], [1, 1]], [[0, -3], [0, 1]]])
    reference = torch.tensor([[[0.0, 5], [1, 0]], [[0, 1], [1, 0]]])
    root = 0.5**0.5
    assert nearest_cosines(tokens, reference) == pytest.approx(torch.tensor([[1, root], [0, 1]]))


def test_a_tower_is_like_itself():
    tokens = torch.randn(80, 4, 6)
    assert scored(tokens, tokens) == pytest.approx(1, abs=1e-3)


def test_a_linear_map_and_a_shift_do_not_count():
    tokens = torch.randn(80, 4, 6)
    assert scored(tokens, tokens @ torch.randn(6, 9) + 7) == pytest.approx(1, abs=1e-3)


def test_the_order_of_the_tokens_counts_in_the_fit_alone():
    """Judged images may have their tokens in any order: the first half of 80 images is judged."""
    tokens = torch.randn(80, 4, 6)
    turned = torch.cat([tokens[:40].flip(1), tokens[40:]])
    assert scored(turned, tokens) == pytest.approx(1, abs=1e-3)


def test_tokens_that_say_nothing():
    """The map is near 0 and points anywhere. The largest of 4 cosines with random directions is what is left."""
    reference = torch.randn(4000, 4, 8)
    directions = torch.nn.functional.normalize(torch.randn(20_000, 4, 8), dim=-1)
    chance = directions[..., 0].amax(dim=1).mean()
    assert scored(torch.randn(4000, 4, 8), reference, batch=500) == pytest.approx(float(chance), abs=0.06)


def test_batches_do_not_matter():
    tokens, reference = torch.randn(30, 4, 3), torch.randn(30, 4, 5)
    assert scored(tokens, reference, batch=7) == pytest.approx(scored(tokens, reference, batch=30))


def test_grids_of_other_sizes():
    fine = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2], [4, 4, 6, 6], [4, 4, 6, 6]]).reshape(1, 16, 1)
    assert regrid(fine, 16) is fine
    coarse = regrid(fine, 4).flatten()
    assert coarse.tolist() == sorted(coarse.tolist()) and coarse.mean().item() == pytest.approx(3)
    assert comparable(fine, coarse[None, :, None]) and not comparable(fine, torch.zeros(1, 6, 1))
