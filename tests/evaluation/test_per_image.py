"""Scores of single images against values worked out by hand and by scikit-learn."""

import numpy as np
import pytest
import torch
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression

from hf_clip_kd.evaluation import per_image
from hf_clip_kd.evaluation.per_image import (
    linear_hits,
    mean_by_image,
    reciprocal_ranks,
    retrieval_scores,
)
from hf_clip_kd.evaluation.representation.attentive_probe import Question


def test_retrieval_by_hand():
    # Image 0 has captions a (nearest to it) and b (nearer to image 1); image 1 has c, which is nearer to image 0.
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    texts = torch.tensor([[1.2, 0.1], [0.1, 1.0], [1.0, 0.5]])
    own = torch.tensor([[True, True, False], [False, False, True]])
    # Ranks: image 0 finds a first; image 1 finds b, then c. Of the captions, a finds its image first, b and c second.
    assert retrieval_scores(images, texts, own).tolist() == pytest.approx(
        [(1 + (1 + 1 / 2) / 2) / 2, (1 / 2 + 1 / 2) / 2]
    )


@pytest.mark.parametrize("chunk", [2**24, 1])
def test_ranks_are_those_of_scipy(monkeypatch, chunk):
    monkeypatch.setattr(per_image, "CHUNK_ELEMENTS", chunk)
    queries, candidates = torch.randn(20, 4), torch.randn(30, 4)
    right = torch.zeros(20, 30, dtype=torch.bool)
    right[range(20), range(20)] = True
    ranks = rankdata(-(queries @ candidates.T).numpy(), axis=1)[range(20), range(20)]
    assert reciprocal_ranks(queries, candidates, right).numpy() == pytest.approx(1 / ranks)


def test_a_collapsed_model_is_no_better_than_chance():
    flat = torch.ones(9, 3)
    assert reciprocal_ranks(flat, flat, torch.eye(9, dtype=torch.bool)).tolist() == pytest.approx([1 / 5] * 9)


def test_linear_hits_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, size=90)
    features = rng.normal(size=(90, 5)) + labels[:, None] * [1.0, 0.5, 0.0, 0.0, 0.0]
    hits = linear_hits(*(torch.tensor(x) for x in (features[:60], labels[:60], features[60:], labels[60:])))
    mean, std = features[:60].mean(axis=0), features[:60].std(axis=0)
    classifier = LogisticRegression(max_iter=1000).fit((features[:60] - mean) / std, labels[:60])
    assert hits.tolist() == (classifier.predict((features[60:] - mean) / std) == labels[60:]).tolist()
    assert 0.4 < hits.mean() < 1


def test_questions_count_by_their_image():
    asked = [Question(image, "who?", ("x",), "person") for image in (1, 0, 1)]
    assert mean_by_image([1.0, 0.0, 0.0], asked, 2).tolist() == [0.0, 0.5]
