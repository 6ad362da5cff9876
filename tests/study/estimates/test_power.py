"""Power of a comparison against scipy, textbook numbers, and simulations whose truth is known."""

import numpy as np
import pytest
from scipy import stats

from hf_clip_kd.study.estimates.power import Design, Variances, detectable, pooled, variances
from hf_clip_kd.study.estimates.statistics import contrast

NAN = float("nan")


def test_many_degrees_of_freedom_need_2_8_standard_errors():
    """The normal quantiles 1.96 and 0.84, as in every textbook."""
    assert detectable(2.0, 1e6) == pytest.approx(2 * (1.95996 + 0.84162), rel=1e-4)


@pytest.mark.parametrize(("freedom", "level"), [(2, 0.05), (2, 0.05 / 40), (9, 0.05), (30.5, 0.01)])
def test_the_noncentral_t_has_the_power_that_was_asked_for(freedom, level):
    size = detectable(1.5, freedom, level=level)
    assert stats.nct.sf(stats.t.ppf(1 - level / 2, freedom), freedom, size / 1.5) == pytest.approx(0.8, abs=1e-6)


def test_unknown_errors_show_nothing():
    assert np.isnan(detectable(NAN, 2)) and np.isnan(detectable(1, NAN))


def test_seeds_alone_are_the_paired_t_test():
    """Cohen: a standardised difference of 1 needs 10 pairs, 0.5 needs 34 (two-sided, 0.05, power 0.8)."""
    parts = Variances(seed=4.0, vlm_seed=NAN, image=0.0, rest=0.0)
    assert parts.seeds_for(2.0, Design(3, 1, 1)) == 10 and parts.seeds_for(1.0, Design(3, 1, 1)) == 34
    assert parts.detectable(Design(10, 1, 1)) == pytest.approx(detectable(2 / 10**0.5, 9))
    assert parts.power(parts.detectable(Design(4, 1, 1)), Design(4, 1, 1)) == pytest.approx(0.8)
    assert parts.seeds_for(0.1, Design(3, 1, 1)) is None


def test_images_cannot_replace_seeds():
    design = Design(3, 1, 500)
    assert Variances(4.0, NAN, 100.0, 0.0).images_for(2.0, design) is None
    # No part of the seeds is left, so the test has the images' degrees of freedom.
    images = Variances(0.0, NAN, 100.0, 0.0).images_for(1.0, design)
    assert images == pytest.approx((1.96 + 0.8416) ** 2 * 100, rel=0.01)
    assert Variances(0.0, NAN, 0.0, 0.0).power(0.1, design) == 1


def test_more_vlm_seeds_lower_their_part_alone():
    parts = Variances(1.0, 4.0, 0.0, 0.0)
    assert [parts.test(Design(2, count, 1))[0] ** 2 for count in (1, 4)] == pytest.approx([2.5, 1.0])


def drawn(rng, seeds, vlm_seeds, images, parts, each=1):
    """Differences with the given parts of the variance; `each` equal questions about an image."""
    deviations = np.sqrt([parts.seed, parts.vlm_seed, parts.image, parts.rest])
    effects = deviations[0] * rng.normal(size=(seeds, 1, 1)) + deviations[1] * rng.normal(size=(seeds, vlm_seeds, 1))
    effects = effects + deviations[2] * rng.normal(size=images)
    effects = effects + deviations[3] * rng.normal(size=(seeds, vlm_seeds, images))
    return np.repeat(effects, each, axis=2)


def test_parts_of_the_variance_are_the_ones_put_in():
    rng, truth = np.random.default_rng(0), Variances(4.0, 2.0, 9.0, 25.0)
    images = np.repeat(np.arange(40), 3)
    found = pooled([variances(drawn(rng, 4, 2, 40, truth, each=3), images) for _ in range(400)])
    assert vars(found) == pytest.approx(vars(truth), rel=0.15)


def test_parts_by_hand():
    """Two seeds that differ by 2, and nothing else does: the sample variance of (0, 2)."""
    found = variances(np.array([[[0.0, 0.0]], [[2.0, 2.0]]]))
    assert (found.seed, found.image, found.rest) == pytest.approx((2, 0, 0)) and np.isnan(found.vlm_seed)
    assert np.isnan(variances(np.zeros((1, 1, 4))).seed)
    means = variances(np.array([[[0.0], [2.0]], [[4.0], [6.0]]]))  # Seeds' means 1 and 5, VLM seeds 2 apart.
    assert (means.seed, means.vlm_seed) == pytest.approx((8 - 2 / 2, 2))


def test_unequal_images_weigh_by_their_questions():
    """Copies of a question in a larger image: the mean is that over questions, as in `contrast`."""
    effects = np.array([[[1.0, 1.0, 1.0, 4.0]], [[2.0, 2.0, 2.0, 5.0]]])
    found = variances(effects, [0, 0, 0, 1])
    assert found.seed == pytest.approx(0.5) and found.rest == pytest.approx(0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parts", "design"),
    [
        (Variances(1.0, NAN, 0.0, 0.0), Design(4, 1, 1)),
        (Variances(0.5, NAN, 40.0, 60.0), Design(4, 1, 100)),
        (Variances(0.2, 1.0, 40.0, 200.0), Design(3, 2, 150)),
    ],
)
def test_a_simulated_study_shows_the_smallest_difference_in_8_of_10(parts, design):
    """The whole way: runs are drawn, averaged over VLM seeds, and tested by `contrast`."""
    rng, size, shown, runs = np.random.default_rng(1), parts.detectable(design), 0, 600
    known = Variances(*np.nan_to_num([parts.seed, parts.vlm_seed, parts.image, parts.rest]))
    for run in range(runs):
        effects = size + drawn(rng, design.seeds, design.vlm_seeds, design.images, known).mean(axis=1)
        found = contrast(effects[None], [1], n_resamples=300, seed=run)
        shown += found.p_value < 0.05 and found.value > 0
    assert shown / runs == pytest.approx(0.8, abs=0.06)
