"""SigLIP's sigmoid loss."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import DistillationLoss
from .chunks import chunks
from .features import CLIPDims, CLIPFeatures

INITIAL_LOGIT_BIAS = -10.0  # as in the paper


class SigLIPLoss(DistillationLoss):
    """
    Trains the student to tell for each image and text alone, without the rest of the batch, whether they are a pair.

    The sum over texts of `softplus(-y * z)`, mean over images, with `z = logit_scale * image @ text.T + logit_bias` of
    shape `(batch, batch)`, `y = 1` for pairs and `-1` for all others ([SigLIP](https://huggingface.co/papers/2303.15343)).
    It needs no teacher. `z` is made in chunks: the memory grows with the batch, not with its square.

    A student without a `logit_bias` gets one here, learned and left behind at export: of `batch ** 2` decisions only
    `batch` are positive, and without an offset the first steps would be spent on pushing all similarities down.
    Ranking, and so retrieval and zero-shot classification, does not depend on it.

    Default weight 1.

    Args:
        student ([`CLIPDims`]): Widths of the student's features; `has_bias` tells whether the student has a bias.
        teacher ([`CLIPDims`], *optional*): Not used.
    """

    needs_teacher = False
    teaches = "The answer for each image and text alone: a pair, or not."
    formula = "mean over images of Σ softplus(−y·z), z = s·v·uᵀ + b, y = ±1"
    paper = {"title": "Sigmoid Loss for Language Image Pre-Training", "id": "2303.15343"}
    reported = None

    def __init__(self, student: CLIPDims, teacher: CLIPDims | None = None):
        super().__init__(student, teacher)
        self.logit_bias = None if student.has_bias else nn.Parameter(torch.tensor([INITIAL_LOGIT_BIAS]))

    def compute(self, student: CLIPFeatures, teacher: CLIPFeatures | None) -> Tensor:
        image, text, scale = student.image, student.text, student.logit_scale
        bias = (student.logit_bias if self.logit_bias is None else self.logit_bias).to(image.dtype)
        index = torch.arange(len(image), device=image.device)

        def total(image: Tensor, own: Tensor) -> Tensor:
            logits = scale * image @ text.T + bias
            return F.softplus(torch.where(own[:, None] == index, -logits, logits)).sum()

        return sum(chunks(total, image, index, width=len(text))) / len(image)
