"""Augmented feature distillation."""

import torch
import torch.nn.functional as F

from .base import Projection
from .features import CLIPDims, CLIPFeatures
from .similarity import ScaledSimilarityLoss, Similarities, Term


class AFDLoss(ScaledSimilarityLoss):
    """
    Trains the student to bring along what the teacher's embeddings lack for telling the pairs of the batch apart.

    The contrastive loss of `clip` on fused embeddings: the mean of both directions' cross-entropy over `y * f @ g.T`,
    shape `(batch, batch)`, with the diagonal as the classes. `f` and `g` have unit norm and are learned `Linear` maps of
    the unit-norm student and teacher images, `[v; V]` of shape `(batch, Ds + Dt)`, and texts, `[u; U]`, to the student's
    width, and `y` is a learned scale ([CLIP-KD](https://huggingface.co/papers/2307.12732)). Default weight 1.

    Reported with the task, ViT-T/16 from ViT-B/16 on CC3M and CC12M: 31.42 % ImageNet top-1, 30.55 % without.

    Args:
        student ([`CLIPDims`]): Widths of the student's features.
        teacher ([`CLIPDims`]): Widths of the teacher's features.
        upstream_compat (`bool`, *optional*, defaults to `False`):
            Computes the published number: the authors' code multiplies by the logarithm of the scale, 2.66, where the
            scale itself, 14.3, was meant.
    """

    teaches = "Embeddings that complete the teacher's: both together find the pairs."
    formula = "(CE(x·f·gᵀ) + CE(x·g·fᵀ)) / 2, f and g linear in [v; V] and [u; U]"
    paper = {"title": "CLIP-KD: An Empirical Study of CLIP Model Distillation", "id": "2307.12732"}
    reported = 31.42

    def __init__(self, student: CLIPDims, teacher: CLIPDims, *, upstream_compat: bool = False):
        super().__init__(student, teacher, upstream_compat=upstream_compat)
        self.image_fusion_proj = Projection(student.embed_dim + teacher.embed_dim, student.embed_dim)
        self.text_fusion_proj = Projection(student.embed_dim + teacher.embed_dim, student.embed_dim)

    def terms(self, student: CLIPFeatures, teacher: CLIPFeatures) -> dict[Term, float]:
        image = self.image_fusion_proj(torch.cat([student.image, teacher.image], dim=-1))
        text = self.text_fusion_proj(torch.cat([student.text, teacher.text], dim=-1))
        logits = Similarities(F.normalize(image, dim=-1), F.normalize(text, dim=-1), self.scale_as(image))
        return {Term(logits): 1.0}
