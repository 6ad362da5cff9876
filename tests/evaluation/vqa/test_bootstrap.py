"""Bootstrap intervals against closed forms."""

import math

import numpy as np
import pytest
from vqa_benchmarks import compute

from hf_clip_kd.evaluation.vqa.bootstrap import bootstrap_intervals, image_units, weighted_mean


def test_a_mean_has_the_normal_interval():
    n, p = 2000, 0.3
    scores = np.array([1.0] * int(n * p) + [0.0] * int(n * (1 - p)))
    low, high = bootstrap_intervals(lambda w: {"mean": weighted_mean(scores, w)}, np.arange(n), n_resamples=2000)[
        "mean"
    ]
    half = 1.96 * math.sqrt(p * (1 - p) / n)
    assert (low, high) == pytest.approx((p - half, p + half), abs=0.1 * half)


def test_over_images_it_is_wider_when_both_questions_agree():
    n = 1000
    scores = np.repeat(np.array([1.0, 0.0] * (n // 2)), 2)

    def summary(weights):
        return {"mean": weighted_mean(scores, weights)}

    low, high = bootstrap_intervals(summary, np.repeat(np.arange(n), 2), n_resamples=2000)["mean"]
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(0.25 / n), rel=0.1)


def test_questions_about_one_image_are_a_unit():
    assert image_units(["b", None, "a", "b", None]).tolist() == [0, 1, 2, 0, 3]


def test_draws_what_it_says():
    # Two samples: means 0, 1/2 and 1 with probabilities 1/4, 1/2 and 1/4.
    seen = []
    bootstrap_intervals(lambda w: seen.append(float(w[1] / w.sum())) or {"mean": seen[-1]}, np.arange(2), seed=1)
    shares = [seen.count(value) / len(seen) for value in (0, 0.5, 1)]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.06)
    again = []
    bootstrap_intervals(lambda w: again.append(float(w[1] / w.sum())) or {"mean": 0.0}, np.arange(2), seed=1)
    assert again == seen


def test_passes_over_resamples_without_the_category():
    found = compute("gqa", ["yes", "no"], {"category": "a"}, {"answers": ["no"], "category": "b"}, n_resamples=50)
    assert found["confidence_intervals"]["a/accuracy"] == [1, 1]
