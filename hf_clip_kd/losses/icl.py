"""Interactive contrastive learning."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..features import CLIPDims, CLIPFeatures
from .base import INITIAL_LOGIT_SCALE, DistillationLoss, contrastive, projection


class ICLLoss(DistillationLoss):
    """
    Trains the student's images to find the teacher's texts, and the student's texts to find the teacher's images.

    The mean of the cross-entropies of `x * p @ U.T` and `x * q @ V.T`, each `(batch, batch)` with the diagonal as the
    classes: `p`, `q` the student's unit-norm images and texts, `V`, `U` the teacher's, `x` a learned scale
    ([CLIP-KD](https://huggingface.co/papers/2307.12732)). Where the widths differ, a learned `Linear` maps the raw
    student embeddings `(batch, Ds)` to `(batch, Dt)` before they are normalised.

    Args:
        student ([`CLIPDims`]): Widths of the student's features.
        teacher ([`CLIPDims`]): Widths of the teacher's features.
        upstream_compat (`bool`, *optional*, defaults to `False`):
            Computes the published number: the authors' code multiplies by the logarithm of the scale, 2.66, where the
            scale itself, 14.3, was meant.
    """

    paper = {"title": "CLIP-KD: An Empirical Study of CLIP Model Distillation", "id": "2307.12732"}

    def __init__(self, student: CLIPDims, teacher: CLIPDims, *, upstream_compat: bool = False):
        super().__init__(student, teacher)
        self.upstream_compat = upstream_compat
        self.image_proj = projection(student, teacher)
        self.text_proj = projection(student, teacher)
        self.logit_scale = nn.Parameter(torch.tensor([math.log(INITIAL_LOGIT_SCALE)]))

    def compute(self, student: CLIPFeatures, teacher: CLIPFeatures) -> Tensor:
        image = F.normalize(self.image_proj(student.image_embeds), dim=-1)
        text = F.normalize(self.text_proj(student.text_embeds), dim=-1)
        scale = self.logit_scale.to(image.dtype)
        scale = scale if self.upstream_compat else scale.exp()
        return (contrastive(scale * image @ teacher.text.T) + contrastive(scale * text @ teacher.image.T)) / 2

    def clamp_scales_(self) -> None:
        if not self.upstream_compat:  # there the parameter is the factor itself, and the authors let it grow freely
            super().clamp_scales_()
