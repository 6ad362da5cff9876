"""Interactive contrastive learning."""

import torch.nn.functional as F
from torch import Tensor, nn

from .base import projection
from .features import CLIPDims, CLIPFeatures
from .similarity import ScaledSimilarityLoss, Similarities, Term


class ICLLoss(ScaledSimilarityLoss):
    """
    Trains the student's images to find the teacher's texts, and the student's texts to find the teacher's images.

    The mean of the cross-entropies of `x * p @ U.T` and `x * q @ V.T`, each `(batch, batch)` with the diagonal as the
    classes: `p`, `q` the student's unit-norm images and texts, `V`, `U` the teacher's, `x` a learned scale
    ([CLIP-KD](https://huggingface.co/papers/2307.12732)). Where the widths differ, a learned `Linear` maps the raw
    student embeddings `(batch, Ds)` to `(batch, Dt)` before they are normalised. Default weight 1.

    Reported with the task, ViT-T/16 from ViT-B/16 on CC3M and CC12M: 33.11 % ImageNet top-1, 30.55 % without.

    Args:
        student ([`CLIPDims`]): Widths of the student's features.
        teacher ([`CLIPDims`]): Widths of the teacher's features.
        upstream_compat (`bool`, *optional*, defaults to `False`):
            Computes the published number: the authors' code multiplies by the logarithm of the scale, 2.66, where the
            scale itself, 14.3, was meant.
    """

    teaches = "Embeddings that find the teacher's embeddings of the other kind: images find texts, texts find images."
    formula = "(CE(x·p·Uᵀ) + CE(x·q·Vᵀ)) / 2"
    paper = {"title": "CLIP-KD: An Empirical Study of CLIP Model Distillation", "id": "2307.12732"}
    reported = 33.11

    def __init__(self, student: CLIPDims, teacher: CLIPDims, *, upstream_compat: bool = False):
        super().__init__(student, teacher, upstream_compat=upstream_compat)
        self.image_proj = projection(student, teacher)
        self.text_proj = projection(student, teacher)

    def logits(self, student: CLIPFeatures, teacher: CLIPFeatures) -> tuple[Similarities, Similarities]:
        """The student's images against the teacher's texts, and the student's texts against the teacher's images."""
        image = _projected(self.image_proj, student.image_embeds, student.image)
        text = _projected(self.text_proj, student.text_embeds, student.text)
        scale = self.scale_as(image)
        return Similarities(image, teacher.text, scale), Similarities(text, teacher.image, scale)

    def terms(self, student: CLIPFeatures, teacher: CLIPFeatures) -> dict[Term, float]:
        # Over the rows only: the columns would ask the teacher's embeddings to find the student's.
        return {Term(logits, columns=False): 0.5 for logits in self.logits(student, teacher)}


def _projected(head: nn.Module, raw: Tensor, unit: Tensor) -> Tensor:
    return unit if isinstance(head, nn.Identity) else F.normalize(head(raw), dim=-1)
