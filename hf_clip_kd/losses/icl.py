"""Interactive contrastive learning."""

import torch.nn.functional as F
from torch import Tensor, nn

from .base import projection
from .features import CLIPDims, CLIPFeatures
from .similarity import ScaledSimilarityLoss, Similarities, Term


class ICLLoss(ScaledSimilarityLoss):
    """
    Contrastive loss across the two models: the student's images find the teacher's texts, its texts the images.

    The loss is the mean of the cross-entropies of `x * p @ U.T` and `x * q @ V.T`, each `(batch, batch)` with the
    diagonal as classes ([CLIP-KD](https://huggingface.co/papers/2307.12732)). `p`, `q` are the student's unit-norm
    images and texts, `V`, `U` the teacher's. `x` is a learned scale. If the widths differ, a learned `Linear` maps the
    raw student embeddings `(batch, Ds)` to `(batch, Dt)` before they are normalised. Default weight 1.

    Reported with the task loss: 33.11 % ImageNet top-1 for a ViT-T/16 from a ViT-B/16 on CC3M and CC12M. The task loss
    alone has 30.55 %.

    Args:
        student ([`CLIPDims`]): Widths of the student's features.
        teacher ([`CLIPDims`]): Widths of the teacher's features.
        upstream_compat (`bool`, *optional*, defaults to `False`):
            Compute the published number. The authors' code multiplies by the logarithm of the scale, 2.66, in place of
            the scale itself, 14.3.
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
        """Compare the student's images with the teacher's texts, and its texts with the teacher's images."""
        image = _projected(self.image_proj, student.image_embeds, student.image)
        text = _projected(self.text_proj, student.text_embeds, student.text)
        scale = self.scale_as(image)
        return Similarities(image, teacher.text, scale), Similarities(text, teacher.image, scale)

    def terms(self, student: CLIPFeatures, teacher: CLIPFeatures) -> dict[Term, float]:
        # Only rows count. Columns would train the teacher's embeddings to find the student's.
        return {Term(logits, columns=False): 0.5 for logits in self.logits(student, teacher)}


def _projected(head: nn.Module, raw: Tensor, unit: Tensor) -> Tensor:
    return unit if isinstance(head, nn.Identity) else F.normalize(head(raw), dim=-1)
