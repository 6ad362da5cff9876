"""Centred kernel alignment."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import DistillationLoss
from .features import CLIPFeatures


class CKALoss(DistillationLoss):
    """
    Centred kernel alignment: the student imitates the teacher's embeddings of a batch up to rotation and size.

    The loss is one minus the linear alignment `||V' v||^2 / (||v' v|| ||V' V||)`, in Frobenius norms, in [0, 1]
    ([Kornblith et al.](https://huggingface.co/papers/1905.00414)). `v` of shape `(batch, Ds)` and `V` of shape
    `(batch, Dt)` are the unit-norm embeddings less their means over the batch. The value is the mean for images and
    texts, or for images alone if a model has no texts. The widths may differ, and the loss needs no head. The matrices
    have the sizes of the widths, so the memory grows with the batch, not with its square. The norm is 1 because
    retrieval compares unit-norm embeddings. The longest raw embeddings would decide alone.

    The alignment of few pairs in many channels is always high, and 1 for any two pairs. Use batches larger than the
    widths. Identical embeddings, or those of one pair, are aligned with nothing: value 1, without a gradient.

    Default weight 1. The authors measure with it and train nothing.

    Args:
        student ([`CLIPDims`]): Widths of the student's features.
        teacher ([`CLIPDims`]): Widths of the teacher's features.
    """

    needs_text = False
    needs_others = True
    teaches = "The teacher's embeddings up to rotation and size."
    formula = "1 − ‖Vᵀv‖² / (‖vᵀv‖·‖VᵀV‖), of centred embeddings"
    paper = {"title": "Similarity of Neural Network Representations Revisited", "id": "1905.00414"}
    reported = None

    def compute(self, student: CLIPFeatures, teacher: CLIPFeatures) -> Tensor:
        value = 1 - alignment(student.image, teacher.image)
        if student.text is None or teacher.text is None:
            return value
        return (value + 1 - alignment(student.text, teacher.text)) / 2


def alignment(x: Tensor, y: Tensor) -> Tensor:
    """Compute linear CKA, 0-dim and in [0, 1], of two views `(batch, Dx)` and `(batch, Dy)` of the same rows."""
    x, y = centred(x), centred(y)
    norms = torch.linalg.matrix_norm(x.T @ x) * torch.linalg.matrix_norm(y.T @ y)
    # A matrix of norm 1 and rank below `batch` has a Gram matrix of norm above 1 / sqrt(batch).
    # Only collapsed rows reach the clamp.
    return (y.T @ x).square().sum() / norms.clamp_min(1 / len(x))


def centred(x: Tensor) -> Tensor:
    """Subtract the mean from unit-norm rows `(batch, dim)`, and scale the matrix to norm 1.

    The norm is smaller if the rows differ only by rounding.
    """
    collapsed = math.sqrt(len(x) * torch.finfo(x.dtype).eps)  # Cosines of rows this close round to 1.
    x = x - x.mean(dim=0)
    return F.normalize(x.flatten(), dim=0, eps=collapsed).view_as(x)
