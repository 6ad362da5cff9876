"""Centred kernel alignment."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import DistillationLoss
from .features import CLIPFeatures


class CKALoss(DistillationLoss):
    """
    The student imitates the teacher's embeddings of a batch up to rotation and size, whatever their widths.

    One minus the linear centred kernel alignment `||V' v||^2 / (||v' v|| ||V' V||)` (Frobenius norms) of the unit-norm
    embeddings `v`, `(batch, Ds)`, and `V`, `(batch, Dt)`, less their means over the batch
    ([Kornblith et al.](https://huggingface.co/papers/1905.00414)); images and texts averaged, or images alone where either
    model has no texts. In [0, 1], and no head is needed. The matrices are of the widths' sizes, so the memory grows with
    the batch, not with its square. Unit norm because that is what retrieval compares: of raw embeddings the longest decide.

    The alignment of few pairs in many channels is high whatever they are, and 1 for any two pairs: use batches larger than
    the widths. Embeddings that are all the same, or of one pair, are aligned with nothing: value 1, without a gradient.

    Default weight 1. The authors measure with it and train nothing.

    Args:
        student ([`CLIPDims`]): Widths of the student's features.
        teacher ([`CLIPDims`]): Widths of the teacher's features.
    """

    needs_text = False
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
    """Linear CKA, a 0-dim tensor in [0, 1], of two views `(batch, Dx)` and `(batch, Dy)` of the same rows."""
    x, y = centred(x), centred(y)
    norms = torch.linalg.matrix_norm(x.T @ x) * torch.linalg.matrix_norm(y.T @ y)
    # A matrix of norm 1 and rank below `batch` has a Gram matrix of norm above 1 / sqrt(batch): only collapsed rows clamp.
    return (y.T @ x).square().sum() / norms.clamp_min(1 / len(x))


def centred(x: Tensor) -> Tensor:
    """Unit-norm rows `(batch, dim)` less their mean, as a matrix of norm 1, or less where rounding is all they differ by."""
    collapsed = math.sqrt(len(x) * torch.finfo(x.dtype).eps)  # rows this close have cosines that round to 1
    x = x - x.mean(dim=0)
    return F.normalize(x.flatten(), dim=0, eps=collapsed).view_as(x)
