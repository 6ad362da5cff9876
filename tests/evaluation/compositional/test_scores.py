"""Scores of single cases by hand, chance levels in closed form, and weighted means."""

import math

import numpy as np
import pytest
import torch

from hf_clip_kd.evaluation.compositional.scores import means, right_answers


@pytest.mark.parametrize(
    ("similarities", "expected"),
    [
        ([[0.9, 0.1], [0.2, 0.8]], (True, True)),
        ([[0.9, 0.95], [0.2, 0.99]], (False, True)),
        ([[0.5, 0.4], [0.6, 0.7]], (True, False)),
        ([[0.5, 0.5], [0.1, 0.9]], (False, True)),
        ([[0.1, 0.9], [0.9, 0.1]], (False, False)),
        ([[0.3, 0.2, 0.1, 0.29]], (True, True)),
        ([[0.3, 0.2, 0.31]], (False, True)),
        ([[0.5, 0.1, 0.6], [0.2, 0.8, 0.1]], (False, True)),
    ],
)
def test_by_hand(similarities, expected):
    assert right_answers(torch.tensor(similarities)) == expected


def test_chance_is_that_of_the_paper():
    """Winoground, table 1: text 25 %, image 25 %, group 16.67 %."""
    draws = torch.randn(6000, 2, 2, generator=torch.Generator().manual_seed(0))
    found = np.array([right_answers(draw) for draw in draws])
    shares = [*found.mean(axis=0), found.all(axis=1).mean()]
    assert shares == pytest.approx([1 / 4, 1 / 4, 1 / 6], abs=4 * math.sqrt(0.25 * 0.75 / 6000))


def test_means_count_by_weights():
    summary = means({"text_acc": np.array([1.0, 0.0, 1.0, 1.0])}, ["a", "a", "b", ""], {"a", "b"}, reported=True)
    assert summary(np.ones(4)) == {"text_acc": 3 / 4, "macro_acc": 3 / 4, "text_acc/a": 1 / 2, "text_acc/b": 1}
    drawn = summary(np.array([3, 1, 0, 0]))
    assert (drawn["text_acc"], drawn["macro_acc"], drawn["text_acc/a"]) == (3 / 4, 3 / 4, 3 / 4)
    assert math.isnan(drawn["text_acc/b"])
