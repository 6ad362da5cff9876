"""CLIP's contrastive loss."""

from torch import Tensor

from ..features import CLIPFeatures
from .base import DistillationLoss, contrastive


class CLIPLoss(DistillationLoss):
    """
    Trains the student to find the text of each image, and the image of each text, among all pairs of the batch.

    The mean of both directions' cross-entropy over `S = logit_scale * image @ text.T`, shape `(batch, batch)`, with the
    diagonal as the classes ([CLIP](https://huggingface.co/papers/2103.00020)). It needs no teacher.

    Args:
        student ([`CLIPDims`]): Widths of the student's features.
        teacher ([`CLIPDims`], *optional*): Not used.
    """

    needs_teacher = False
    paper = {"title": "Learning Transferable Visual Models From Natural Language Supervision", "id": "2103.00020"}

    def compute(self, student: CLIPFeatures, teacher: CLIPFeatures | None) -> Tensor:
        logits = student.logit_scale * student.image @ student.text.T
        return (contrastive(logits) + contrastive(logits.T)) / 2
