"""SigLIP's sigmoid loss."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import DistillationLoss
from .features import CLIPDims, CLIPFeatures
from .parts.chunks import chunks

INITIAL_LOGIT_BIAS = -10.0  # The paper starts with this bias.


class SigLIPLoss(DistillationLoss):
    """
    Sigmoid loss: the student decides for each image and text alone, without the batch, if they are a pair.

    The loss is the sum over texts of `softplus(-y * z)`, a mean over images
    ([SigLIP](https://huggingface.co/papers/2303.15343)). `z = logit_scale * image @ text.T + logit_bias` has shape
    `(batch, batch)`. `y` is 1 for pairs and -1 for all others. The loss needs no teacher. `z` is made in chunks, so
    the memory grows with the batch, not with its square.

    A student without a `logit_bias` gets a learned one here, which is left out at export. Only `batch` of `batch ** 2`
    decisions are positive. The first steps would otherwise only push all similarities down. The bias does not change
    rankings, and therefore neither retrieval nor zero-shot classification.

    Default weight 1.

    Args:
        student ([`CLIPDims`]): Widths of the student's features. `has_bias` is true if the student has a bias.
        teacher ([`CLIPDims`], *optional*): Not used.
    """

    needs_teacher = False
    needs_others = True
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
