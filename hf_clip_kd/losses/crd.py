"""Contrastive relational distillation."""

import torch.nn.functional as F
from torch import Tensor

from ..features import CLIPFeatures
from .base import DistillationLoss


class CRDLoss(DistillationLoss):
    """
    Makes the student rank all texts for an image, and all images for a text, as the teacher does.

    `KL(softmax(T) || softmax(S))` over the rows, mean over the batch, mean of both directions, with
    `S = logit_scale * image @ text.T` of the student and `T` the same of the teacher, each `(batch, batch)` and each
    with its own scale ([CLIP-KD](https://huggingface.co/papers/2307.12732)). The teacher may have any width.

    Args:
        student ([`CLIPDims`]): Widths of the student's features.
        teacher ([`CLIPDims`]): Widths of the teacher's features.
    """

    paper = {"title": "CLIP-KD: An Empirical Study of CLIP Model Distillation", "id": "2307.12732"}

    def compute(self, student: CLIPFeatures, teacher: CLIPFeatures) -> Tensor:
        logits = student.logit_scale * student.image @ student.text.T
        targets = teacher.logit_scale * teacher.image @ teacher.text.T
        return (divergence(logits, targets) + divergence(logits.T, targets.T)) / 2


def divergence(logits: Tensor, targets: Tensor) -> Tensor:
    """`KL(softmax(targets) || softmax(logits))` of `(batch, classes)` logits in nats, mean over the rows."""
    # Logarithms on both sides: a target that underflows to 0 would turn 0 * log 0 into NaN.
    return F.kl_div(logits.log_softmax(-1), targets.log_softmax(-1), reduction="batchmean", log_target=True)
