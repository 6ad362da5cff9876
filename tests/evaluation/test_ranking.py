"""Hit rates with ties against every order of the tied."""

import itertools

import numpy as np
import pytest
import torch

from hf_clip_kd.evaluation.ranking import hit_rate


def test_ties_count_as_their_chance():
    scores = torch.tensor([[0.5, 0.5, 0.9, 0.5, 0.1, 0.5], [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]])
    positives = torch.tensor([[1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1]]).bool()
    for k in range(1, 7):
        expected = []
        for row, positive in zip(scores.tolist(), positives.tolist(), strict=True):
            orders = [sorted(order, key=lambda i: -row[i]) for order in itertools.permutations(range(6))]
            expected.append(np.mean([any(positive[i] for i in order[:k]) for order in orders]))
        assert hit_rate(scores, positives, k).tolist() == pytest.approx(expected, abs=1e-6)
