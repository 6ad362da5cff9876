"""Distance of two geometries: shapes with known answers, and every matching of few points."""

import itertools
import sys

import numpy as np
import pytest
import torch

from hf_clip_kd.evaluation.representation import gromov_wasserstein
from hf_clip_kd.evaluation.representation.gromov_wasserstein import angular_distances


def on_a_circle(*degrees):
    angles = torch.tensor(degrees, dtype=torch.double).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def test_angles():
    distances = angular_distances(on_a_circle(0, 30, 120) * torch.tensor([[1.0], [5.0], [0.2]]))
    assert np.rad2deg(distances) == pytest.approx(np.array([[0, 30, 120], [30, 0, 90], [120, 90, 0]]))


def test_equal_shapes_have_no_distance():
    points = torch.randn(12, 5)
    turned = points @ torch.linalg.qr(torch.randn(5, 5)).Q
    assert gromov_wasserstein(points, points) == pytest.approx(0, abs=1e-6)
    assert gromov_wasserstein(points, 3 * turned) == pytest.approx(0, abs=1e-6)


def test_another_order_of_the_same_shape():
    """The matching is searched, so that texts in another order are found again."""
    points = torch.randn(8, 3)
    assert gromov_wasserstein(points, points[torch.randperm(8)]) == pytest.approx(0, abs=1e-6)


def test_a_smaller_shape_is_the_same():
    assert gromov_wasserstein(on_a_circle(0, 8, 20, 40), on_a_circle(0, 16, 40, 80)) == pytest.approx(0, abs=1e-6)


def test_three_points_by_hand():
    """
    Distances of 20, 20 and 40 degrees against 30, 40 and 70. The medians make the first 40, 40 and 80. The best
    matching leaves differences of 10, 0 and 10 degrees. Each pair counts twice, among 9 pairs.
    """
    expected = np.deg2rad(2 * (10 + 0 + 10) / 9)
    assert gromov_wasserstein(on_a_circle(0, 20, 40), on_a_circle(0, 30, 70)) == pytest.approx(expected)


def test_no_matching_of_few_points_is_better():
    images = torch.randn(6, 3)
    texts = images + 0.2 * torch.randn(6, 3)
    x, y = angular_distances(images), angular_distances(texts)
    others = ~np.eye(6, dtype=bool)
    x = x * np.median(y[others]) / np.median(x[others])
    orders = [np.ix_(order, order) for order in itertools.permutations(range(6))]
    best = min(orders, key=lambda order: np.square(x - y[order]).sum())
    assert gromov_wasserstein(images, texts) == pytest.approx(np.abs(x - y[best]).mean())
    assert np.abs(x - y[best]).mean() > 0.01


def test_a_tower_that_sees_nothing():
    """All angles between its images are 0, so the distance is the mean angle between the texts."""
    texts = torch.randn(6, 4)
    assert gromov_wasserstein(torch.ones(6, 3), texts) == pytest.approx(angular_distances(texts).mean(), rel=1e-6)


def test_too_few_pairs():
    with pytest.raises(ValueError, match="2 images and 2 texts.*3 pairs are the fewest"):
        gromov_wasserstein(torch.randn(2, 3), torch.randn(2, 3))


def test_without_pot(monkeypatch):
    monkeypatch.setitem(sys.modules, "ot.gromov", None)
    with pytest.raises(ValueError, match=r"needs the package POT.*pip install 'hf_clip_kd\[worth\]'"):
        gromov_wasserstein(torch.randn(4, 3), torch.randn(4, 3))
