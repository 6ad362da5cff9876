"""What simple classifiers find in frozen features.

scikit-learn takes a second to import, which every process would wait for: it is imported where something is probed.
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
    Accuracy of a logistic regression on frozen features ([CLIP](https://huggingface.co/papers/2103.00020), section 3.2).

    Features are standardised and the penalty is scikit-learn's default, not searched.

    Args:
        features (`Tensor` of shape `(samples, dim)`): At least 5 samples.
        labels (sequence of `int` or `str`): Their classes.

    Returns:
        `float`: Share of right ones, each judged by the classifier that did not see its fifth of the samples.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return held_out_accuracy(make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)), features, labels)


def knn_probe(features: Tensor, labels: Sequence) -> float:
    """
    Accuracy of the vote of the 20 nearest neighbours by cosine, each with the weight `exp(cosine / 0.07)`
    ([Wu et al.](https://huggingface.co/papers/1805.01978), as [DINO](https://huggingface.co/papers/2104.14294) uses it).

    Args:
        features (`Tensor` of shape `(samples, dim)`), labels (sequence of `int` or `str`): As in [`linear_probe`].

    Returns:
        `float`: Share of right ones, each among the neighbours in the other four fifths of the samples.
    """
    from sklearn.neighbors import KNeighborsClassifier

    neighbours = min(NEIGHBOURS, len(features) - -(-len(features) // FOLDS))
    vote = KNeighborsClassifier(neighbours, metric="cosine", weights=lambda distance: np.exp(-distance / TEMPERATURE))
    return held_out_accuracy(vote, features, labels)


def held_out_accuracy(classifier: ClassifierMixin, features: Tensor, labels: Sequence) -> float:
    """Accuracy over all samples by cross-validation in 5 random, fixed parts."""
    from sklearn.model_selection import KFold, cross_val_score

    parts = KFold(FOLDS, shuffle=True, random_state=0)
    scores = cross_val_score(classifier, features.cpu().double().numpy(), np.asarray(labels), cv=parts)
    sizes = [len(held_out) for _, held_out in parts.split(labels)]
    return float(np.average(scores, weights=sizes))
