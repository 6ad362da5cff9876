"""Augmented feature distillation."""

import torch
import torch.nn.functional as F

from .base import Projection
from .features import CLIPDims, CLIPFeatures
from .similarity import ScaledSimilarityLoss, Similarities, Term


class AFDLoss(ScaledSimilarityLoss):
    """
    Contrastive loss on fused embeddings: the student learns to complete the teacher's embeddings.

    The loss is that of `clip` on fused embeddings ([CLIP-KD](https://huggingface.co/papers/2307.12732)). It is the
    mean of both directions' cross-entropy over `y * f @ g.T`, of shape `(batch, batch)`, with the diagonal as classes.
    `f` and `g` are learned `Linear` maps to the student's width, with unit norm. `f` maps the unit-norm images of
    student and teacher, `[v; V]` of shape `(batch, Ds + Dt)`, and `g` maps the texts, `[u; U]`. `y` is a learned
    scale. Default weight 1.

    Reported with the task loss: 31.42 % ImageNet top-1 for a ViT-T/16 from a ViT-B/16 on CC3M and CC12M. The task loss
    alone has 30.55 %.

    Args:
        student ([`CLIPDims`]): Widths of the student's features.
        teacher ([`CLIPDims`]): Widths of the teacher's features.
        upstream_compat (`bool`, *optional*, defaults to `False`):
            Compute the published number. The authors' code multiplies by the logarithm of the scale, 2.66, in place of
            the scale itself, 14.3.
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
