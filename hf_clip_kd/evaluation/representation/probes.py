"""Simple classifiers on frozen features.

scikit-learn takes a second to import, so each function imports it for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from sklearn.base import ClassifierMixin

FOLDS = 5
NEIGHBOURS = 20
TEMPERATURE = 0.07


def linear_probe(features: Tensor, labels: Sequence) -> float:
    """
    Return the accuracy of a logistic regression on frozen features ([CLIP](https://huggingface.co/papers/2103.00020),
    section 3.2).

    Features are standardised and the penalty is scikit-learn's default, not searched.

    Args:
        features (`Tensor` of shape `(samples, dim)`): Features of at least 5 samples.
        labels (sequence of `int` or `str`): Their classes.

    Returns:
        `float`: Share of right classes. Each fifth is judged by a classifier that was fitted on the others.
    """
    return held_out_accuracy(linear_classifier(), features, labels)


def linear_classifier() -> ClassifierMixin:
    """Return the logistic regression of [`linear_probe`] before its fit."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def knn_probe(features: Tensor, labels: Sequence) -> float:
    """
    Return the accuracy of a vote of the 20 nearest neighbours by cosine, with weights `exp(cosine / 0.07)`.

    The vote is that of [Wu et al.](https://huggingface.co/papers/1805.01978), which
    [DINO](https://huggingface.co/papers/2104.14294) uses.

    Args:
        features (`Tensor` of shape `(samples, dim)`), labels (sequence of `int` or `str`): See [`linear_probe`].

    Returns:
        `float`: Share of right classes. Neighbours come from the other four fifths of the samples.
    """
    from sklearn.neighbors import KNeighborsClassifier

    neighbours = min(NEIGHBOURS, len(features) - -(-len(features) // FOLDS))
    vote = KNeighborsClassifier(neighbours, metric="cosine", weights=lambda distance: np.exp(-distance / TEMPERATURE))
    return held_out_accuracy(vote, features, labels)


def held_out_accuracy(classifier: ClassifierMixin, features: Tensor, labels: Sequence) -> float:
    """Return the accuracy over all samples by cross-validation in 5 random, fixed parts."""
    from sklearn.model_selection import KFold, cross_val_score

    parts = KFold(FOLDS, shuffle=True, random_state=0)
    scores = cross_val_score(classifier, features.cpu().double().numpy(), np.asarray(labels), cv=parts)
    sizes = [len(held_out) for _, held_out in parts.split(labels)]
    return float(np.average(scores, weights=sizes))
