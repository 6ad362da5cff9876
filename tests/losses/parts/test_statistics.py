"""Statistics of a teacher against those of all its tokens together."""

import pytest
import torch

from hf_clip_kd.losses import LOSSES
from hf_clip_kd.losses.features import CLIPDims
from hf_clip_kd.losses.parts.statistics import FixedStatistics, build_statistics, moments_of, standardised

WIDTH = 6


def batches(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    spread = 1 + torch.arange(WIDTH)
    return [3 + i + spread * torch.randn(4, 5, WIDTH, generator=generator) for i in range(count)]


def by_hand(tokens, seen):
    """Standardise with mean and deviation of all tokens in `seen`, by torch's own functions."""
    rows = torch.cat([batch.flatten(0, 1) for batch in seen]).double()
    return ((tokens.double() - rows.mean(0)) / rows.std(0, correction=0)).float()


def test_the_first_batches_count_and_no_other():
    fixed, given = FixedStatistics(WIDTH, 3), batches(5)
    for index, tokens in enumerate(given):
        # The batches seen so far serve until the third, this batch included.
        torch.testing.assert_close(fixed(tokens), by_hand(tokens, given[: min(index + 1, 3)]), rtol=1e-4, atol=1e-5)
    assert fixed.seen.item() == 3
    assert abs(by_hand(given[4], given) - by_hand(given[4], given[:3])).max() > 0.1, "the test can fail"


def test_the_first_batch_alone_is_standardised_as_by_batch():
    (tokens,) = batches(1)
    torch.testing.assert_close(FixedStatistics(WIDTH, 2)(tokens), standardised(tokens))


def test_the_moments_of_all_processes_count():
    """A process has a half of the images, and the moments of all."""
    whole, half = FixedStatistics(WIDTH, 2), FixedStatistics(WIDTH, 2)
    for tokens in batches(3):
        expected = whole(tokens)
        assert torch.equal(half(tokens[2:], moments_of(tokens)), expected[2:])
    assert torch.equal(half.moments, whole.moments)


def test_evaluation_counts_nothing():
    fixed, given = FixedStatistics(WIDTH, 2), batches(4)
    with torch.no_grad():
        # Nothing was seen, so the batch's own statistics serve.
        torch.testing.assert_close(fixed(given[0]), standardised(given[0]))
    fixed.eval()
    fixed(given[1])
    assert fixed.seen.item() == 0 and not fixed.moments.any()
    fixed.train()
    fixed(given[2])
    fixed.eval()
    torch.testing.assert_close(fixed(given[3]), by_hand(given[3], given[2:3]), rtol=1e-4, atol=1e-5)
    assert fixed.seen.item() == 1


def test_a_batch_that_is_not_finite_does_not_count():
    fixed, given = FixedStatistics(WIDTH, 2), batches(3)
    fixed(given[0])
    broken = given[1].clone()
    broken[0, 0, 0] = float("inf")
    fixed(broken)
    fixed(given[2])
    assert fixed.seen.item() == 2
    expected = by_hand(given[1], [given[0], given[2]])
    torch.testing.assert_close(fixed(given[1]), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_engine_that_casts_the_module_does_not_round_the_statistics(dtype):
    # A mean of 1000 and a deviation of 1: in halves, the difference of the two moments would be nothing.
    tokens = 1000 + batches(1)[0]
    fixed = FixedStatistics(WIDTH, 1)
    expected = fixed(tokens)
    fixed.to(dtype)
    assert fixed.moments.dtype == torch.float32 and fixed.seen.dtype == torch.int64
    assert torch.equal(fixed(tokens), expected)


def test_a_resumed_run_goes_on_with_them():
    given = batches(4)
    whole, first, second = (FixedStatistics(WIDTH, 3) for _ in range(3))
    for tokens in given[:2]:
        whole(tokens), first(tokens)
    second.load_state_dict(first.state_dict())
    for tokens in given[2:]:
        assert torch.equal(second(tokens), whole(tokens))
    assert set(first.state_dict()) == {"moments", "seen"}


def test_embeddings_are_rows_of_one_token():
    rows = batches(1)[0].flatten(0, 1)
    torch.testing.assert_close(FixedStatistics(WIDTH, 1)(rows), by_hand(rows, [rows[None]]), rtol=1e-4, atol=1e-5)


def test_by_batch_and_none_have_no_memory():
    (tokens,) = batches(1)
    assert torch.equal(build_statistics(WIDTH, "batch")(tokens), standardised(tokens))
    assert build_statistics(WIDTH, "none")(tokens) is tokens
    assert not [*build_statistics(WIDTH, "batch").state_dict(), *build_statistics(WIDTH, "none").state_dict()]


@pytest.mark.parametrize("statistics", [0, -2, 1.5, True, "all"])
def test_statistics_that_are_none(statistics):
    dims = CLIPDims(4, token_dim=4)
    with pytest.raises(ValueError, match=r"statistics=.* in the loss 'patch'.*'batch', 'none' and the number.*500"):
        LOSSES["patch"](dims, dims, statistics=statistics)
