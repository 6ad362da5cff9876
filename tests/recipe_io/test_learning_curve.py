"""Area under a learning curve and steps to a score, against closed forms."""

import math

import numpy as np
import pytest

from hf_clip_kd.recipe_io.learning_curve import area, steps_to

STEPS = [10, 100, 10_000]  # logarithms to the base 10: 1, 2, 4


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.3, 0.3, 0.3], 0.3),
        ([0.1, 0.2, 0.4], 0.25),  # a line over the logarithm has the mean of its ends
        ([0.0, 1.0, 0.0], 0.5),  # a triangle
        ([0.0, 0.0, 0.6], 0.2),  # 2 * 0.3 of a width of 3
    ],
    ids=str,
)
def test_area_of_closed_forms(scores, expected):
    assert area(STEPS, scores) == pytest.approx(expected)


def test_area_is_the_integral_of_a_dense_curve():
    steps = list(range(100, 2001))
    # The integral of exp(-x) over x = log(steps) is the difference of 1 / steps at the ends.
    width = math.log(20)
    expected = (1 / 100 - 1 / 2000) / width
    assert area(steps, [1 / step for step in steps]) == pytest.approx(expected, rel=1e-4)
    scores = np.sqrt(steps).tolist()
    assert area(steps, scores) == pytest.approx(np.trapezoid(scores, np.log(steps)) / width)


def test_area_of_a_single_point_is_its_score():
    assert area([250], [0.6]) == 0.6


@pytest.mark.parametrize(
    ("scores", "score", "expected"),
    [
        ([0.1, 0.2, 0.4], 0.3, 1000),
        ([0.1, 0.2, 0.4], 0.15, 10**1.5),
        ([0.1, 0.2, 0.4], 0.4, 10_000),
        ([0.1, 0.2, 0.4], 0.41, None),
        ([0.1, 0.2, 0.4], 0.05, 10),  # an upper bound
        ([0.1, 0.5, 0.2], 0.3, 10**1.5),  # the first time counts
        ([0.5, 0.1, 0.7], 0.5, 10),
    ],
    ids=str,
)
def test_steps_to_a_score(scores, score, expected):
    assert steps_to(STEPS, scores, score) == (None if expected is None else pytest.approx(expected))
    falling = [-value for value in scores]
    assert steps_to(STEPS, falling, -score, lower_is_better=True) == steps_to(STEPS, scores, score)
