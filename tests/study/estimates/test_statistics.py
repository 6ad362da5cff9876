"""The statistics of a study against closed forms, scipy and simulations whose truth is known."""

import numpy as np
import pytest
from scipy import stats

from hf_clip_kd.study.estimates.statistics import (
    Estimate,
    _weighted_ranks,
    contrast,
    holm,
    rank_correlation,
    slope_weights,
)


def test_with_means_alone_a_difference_is_the_paired_t_test():
    """Bootknife draws have the standard error of the mean, so what remains is Student's interval."""
    first, second = np.random.default_rng(0).normal(size=(2, 6)) + [[0], [1]]
    found = contrast(np.stack([first, second])[..., None], [-1, 1], n_resamples=20000)
    expected = stats.ttest_rel(second, first)
    low, high = expected.confidence_interval(0.95)
    assert found.value == pytest.approx((second - first).mean())
    assert (found.low, found.high) == pytest.approx((low, high), rel=0.03)
    assert found.p_value == pytest.approx(expected.pvalue, rel=0.15)


def test_with_one_seed_the_questions_are_drawn():
    """The standard error of a mean difference over questions, sd / sqrt(n)."""
    outcomes = (np.random.default_rng(1).random((2, 1, 500)) < [[[0.5]], [[0.6]]]).astype(float)
    difference = outcomes[1, 0] - outcomes[0, 0]
    found = contrast(outcomes, [-1, 1], n_resamples=5000)
    reach = stats.t.ppf(0.975, 499) * difference.std(ddof=1) / np.sqrt(500)
    assert found.seeds == 1 and found.low > 0 and not found.clear
    assert (found.high - found.value, found.value - found.low) == pytest.approx((reach, reach), rel=0.05)


@pytest.mark.parametrize("question_noise", [0.0, 1.0])
def test_an_interval_holds_the_truth_as_often_as_it_says(question_noise):
    """Three seeds and 40 questions, both with effects of their own: at least 90 of 100."""
    rng, hits, runs = np.random.default_rng(2), 0, 200
    for run in range(runs):
        effect = 0.5 + 0.3 * rng.normal(size=(3, 1)) + question_noise * rng.normal(size=(1, 40))
        found = contrast(np.stack([np.zeros((3, 40)), effect]), [-1, 1], n_resamples=200, seed=run)
        hits += found.low <= 0.5 <= found.high
    assert hits / runs >= 0.9


def test_without_an_effect_few_findings_are_clear():
    rng = np.random.default_rng(3)
    noise = [contrast(rng.normal(size=(2, 3, 1)), [-1, 1], n_resamples=200, seed=i) for i in range(300)]
    assert np.mean([found.clear for found in noise]) < 0.09
    assert np.mean([found.p_value < 0.05 for found in noise]) < 0.09


def test_pairing_takes_out_what_conditions_share():
    """Lucky seeds and hard questions, much larger than the effect."""
    rng = np.random.default_rng(4)
    shared = 5 * rng.normal(size=(4, 1)) + 5 * rng.normal(size=(1, 100))
    found = contrast(np.stack([shared, shared + 0.2 + 0.01 * rng.normal(size=(4, 100))]), [-1, 1])
    assert found.clear and found.value == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize(("constant", "p_value"), [(0.5, 0.0), (0.0, 1.0)])
def test_where_nothing_varies_the_interval_is_the_value(constant, p_value):
    found = contrast(np.stack([np.zeros((3, 5)), np.full((3, 5), constant)]), [-1, 1])
    assert found == Estimate(constant, constant, constant, p_value, 3)


def test_of_one_number_there_is_no_interval():
    found = contrast(np.array([[[1.0]], [[3.0]]]), [-1, 1])
    assert found.value == 2 and np.isnan([found.low, found.high, found.p_value]).all() and not found.clear


def test_the_same_call_gives_the_same_interval():
    outcomes = np.random.default_rng(5).normal(size=(2, 3, 20))
    assert contrast(outcomes, [-1, 1]) == contrast(outcomes, [-1, 1]) != contrast(outcomes, [-1, 1], seed=1)


def test_slope_weights_give_the_least_squares_line():
    x, y = np.random.default_rng(6).normal(size=(2, 5))
    assert slope_weights(x) @ y == pytest.approx(stats.linregress(x, y).slope)


def test_a_slope_needs_two_places():
    with pytest.raises(ValueError, match=r"x=\[2.0, 2.0\].*two places at least.*more conditions"):
        slope_weights([2, 2])


def test_holm_by_hand():
    """Times 3, 2 and 1 in rising order, never falling, at most 1."""
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1, 1])
    assert holm([]).size == 0


def test_rank_correlation_is_that_of_scipy_ties_and_all():
    x, y = np.random.default_rng(7).integers(0, 5, size=(2, 30))
    found = rank_correlation(x, y, range(30))
    assert found.value == pytest.approx(stats.spearmanr(x, y).statistic)
    assert found.low < found.value < found.high


def test_rank_correlation_draws_like_a_bootstrap_with_scipy():
    rng = np.random.default_rng(8)
    x = rng.normal(size=25)
    y = x + rng.normal(size=25)
    drawn = (rng.integers(25, size=25) for _ in range(2000))
    expected = np.percentile([stats.spearmanr(x[i], y[i]).statistic for i in drawn], [2.5, 97.5])
    found = rank_correlation(x, y, range(25), n_resamples=4000)
    assert [found.low, found.high] == pytest.approx(expected, abs=0.03)


def test_copies_of_a_condition_are_not_evidence():
    """Ten seeds of each condition that all say the same leave the interval as wide as one."""
    x, y = np.random.default_rng(9).normal(size=(2, 8))
    once = rank_correlation(x, y, range(8), n_resamples=4000)
    copies = rank_correlation(np.repeat(x, 10), np.repeat(y, 10), np.repeat(range(8), 10), n_resamples=4000)
    assert copies.seeds == 8
    assert [copies.low, copies.high] == pytest.approx([once.low, once.high], abs=0.05)


def test_equal_cells_share_a_rank_whatever_the_order_of_a_sum():
    """The questions of an image come in another order: the last digits of sums differ, and mean nothing."""
    rng = np.random.default_rng(10)
    x, scores = rng.random(45), 100 * rng.random((15, 100, 6))
    copies = np.repeat(scores, 3, axis=0)
    turned = np.stack([copies[i] if i % 3 else copies[i, :, ::-1] for i in range(45)])
    images = np.repeat(range(100), 6)
    found = [rank_correlation(x, y.reshape(45, 600), range(45), images=images) for y in (copies, turned)]
    assert [found[1].low, found[1].high] == [found[0].low, found[0].high]


@pytest.mark.parametrize(
    ("x", "y", "groups"), [([1, 2], [1, 2], "ab"), ([1, 1, 1], [1, 2, 3], "abc"), ([1, 2, 3], [1, 1, 1], "abc")]
)
def test_too_little_to_rank(x, y, groups):
    assert np.isnan(rank_correlation(x, y, list(groups)).value)


def test_two_conditions_have_a_correlation_and_no_interval():
    found = rank_correlation([1, 2, 3], [1, 2, 3], ["a", "a", "b"])
    assert found.value == pytest.approx(1) and np.isnan(found.low)


def test_rank_correlation_of_conditions_in_one_order_has_no_interval():
    """Every draw of them is in that order, too, so the draws cannot say how sure it is."""
    found = rank_correlation(np.arange(5), np.arange(5), range(5))
    assert found.value == 1 and np.isnan([found.low, found.high]).all() and not found.clear


# ---- Questions about the same image ----


def test_with_an_image_for_each_question_nothing_changes():
    outcomes = np.random.default_rng(10).normal(size=(2, 3, 50))
    alone, by_image = contrast(outcomes, [-1, 1]), contrast(outcomes, [-1, 1], images=range(50))
    assert vars(by_image) == pytest.approx(vars(alone), rel=1e-9)


@pytest.mark.parametrize("seeds", [1, 3])
def test_copies_of_a_question_leave_the_standard_error_of_the_images(seeds):
    outcomes = np.random.default_rng(11).normal(size=(2, seeds, 40))
    copies, images = np.repeat(outcomes, 6, axis=2), np.repeat(np.arange(40), 6)
    found = contrast(copies, [-1, 1], images=images)
    assert vars(found) == pytest.approx(vars(contrast(outcomes, [-1, 1])), rel=1e-9)
    if seeds == 1:
        effects = np.diff(outcomes, axis=0)[0, 0]
        assert found.error == pytest.approx(effects.std(ddof=1) / 40**0.5, rel=0.1)
        assert contrast(copies, [-1, 1]).error == pytest.approx(found.error / 6**0.5, rel=0.1)


def test_images_with_different_numbers_of_questions_are_a_ratio():
    """The linearised variance of a ratio (Cochran 1977, chapter 6) for one seed."""
    rng = np.random.default_rng(12)
    images = np.repeat(np.arange(300), rng.integers(1, 6, 300))
    effects = (rng.normal(size=300)[images] + rng.normal(size=len(images)))[None, None]
    found = contrast(effects, [1], images=images, n_resamples=4000)
    above = np.bincount(images, effects[0, 0] - effects.mean())
    assert found.value == pytest.approx(effects.mean())
    assert found.error == pytest.approx(above.std(ddof=1) * 300**0.5 / len(images), rel=0.05)
    assert found.freedom == pytest.approx(299)


def test_rank_correlation_draws_images_too():
    """Scores of few images that could have been others leave the order of the cells less sure."""
    rng = np.random.default_rng(13)
    quality = np.linspace(0, 1, 12)
    questions = quality[:, None] + 3 * rng.normal(size=(12, 30))
    means = questions.mean(axis=1)
    alone, drawn = (rank_correlation(means, y, range(12), n_resamples=500) for y in (means, questions))
    assert alone.value == drawn.value == pytest.approx(1) and np.isnan(alone.low) and drawn.low < 0.95
    copies = np.repeat(questions, 4, axis=1)
    found = rank_correlation(means, copies, range(12), images=np.repeat(np.arange(30), 4), n_resamples=500)
    assert (found.low, found.high) == pytest.approx((drawn.low, drawn.high), abs=1e-6)


def test_ranks_of_drawn_questions_are_those_of_scipy():
    rng = np.random.default_rng(14)
    y, counts = rng.integers(0, 4, (3, 8)).astype(float), np.ones((3, 8))
    assert np.array_equal(_weighted_ranks(y, counts), stats.rankdata(y, axis=1))
    repeated = np.array([[2, 1, 0, 3]])
    sample = np.repeat([5.0, 1.0, 9.0, 5.0], repeated[0])
    expected = stats.rankdata(sample)[[0, 2, 3]]  # Places of the first, second and last cell in the sample.
    assert _weighted_ranks(np.array([[5.0, 1.0, 9.0, 5.0]]), repeated)[0, [0, 1, 3]].tolist() == expected.tolist()
