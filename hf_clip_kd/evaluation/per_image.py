"""Scores of single images: ranks of image and captions, and hits of probes that were fitted on other images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .representation.attentive_probe import Question
from .representation.probes import linear_classifier

CHUNK_ELEMENTS = 2**24  # Number of similarities in memory at a time: 64 MB in float32.


def retrieval_scores(images: Tensor, texts: Tensor, own: Tensor) -> Tensor:
    """
    Return the mean reciprocal rank of each image and its captions among all.

    Half of the score is the reciprocal rank of the image's nearest own caption among all captions. The other half is
    that of a caption's nearest own image among all images. Several captions count by
    their mean. Equal similarities share their ranks, so a collapsed model gets no more than chance.

    Args:
        images (`Tensor` of shape `(images, dim)`), texts (`Tensor` of shape `(texts, dim)`): Unit-norm features.
        own (`bool` `Tensor` of shape `(images, texts)`): True where a caption is the image's, at least once in each
            row and column.

    Returns:
        `Tensor` of shape `(images,)`, in (0, 1].
    """
    of_images = reciprocal_ranks(images, texts, own)
    of_texts = reciprocal_ranks(texts, images, own.T)
    return (of_images + (own.float() @ of_texts) / own.sum(dim=1)) / 2


def reciprocal_ranks(queries: Tensor, candidates: Tensor, right: Tensor) -> Tensor:
    """Return 1 / (rank of the best right candidate) of each query; `right` has the shape `(queries, candidates)`."""
    chunk = max(1, CHUNK_ELEMENTS // len(candidates))
    found = []
    for some, some_right in zip(queries.split(chunk), right.split(chunk), strict=True):
        scores = some @ candidates.T
        best = scores.masked_fill(~some_right, -torch.inf).amax(dim=1, keepdim=True)
        above = (scores > best).sum(dim=1)
        level = ((scores == best) & ~some_right).sum(dim=1)
        found.append(1 / (1 + above + level / 2))
    return torch.cat(found)


def linear_hits(features: Tensor, labels: Tensor, held_out: Tensor, held_out_labels: Tensor) -> Tensor:
    """
    Return 1 for each held-out image whose class a logistic regression on the others tells, else 0.

    Features are standardised and the penalty is scikit-learn's default, as in [`linear_probe`].

    Args:
        features (`Tensor` of shape `(others, dim)`), labels (`Tensor` of shape `(others,)`): Images for the fit.
        held_out (`Tensor` of shape `(images, dim)`), held_out_labels (`Tensor` of shape `(images,)`): Images to judge.
    """
    classifier = linear_classifier()
    classifier.fit(features.double().numpy(), labels.numpy())
    return torch.from_numpy(classifier.predict(held_out.double().numpy()) == held_out_labels.numpy()).double()


def mean_by_image(hits: Sequence[float], asked: Sequence[Question], images: int) -> Tensor:
    """Return the mean hit of each image's questions, `(images,)`; each image has one at least."""
    of = torch.tensor([question.image for question in asked])
    sums = torch.zeros(images, dtype=torch.double).index_add_(0, of, torch.tensor(hits, dtype=torch.double))
    return sums / torch.bincount(of, minlength=images)
