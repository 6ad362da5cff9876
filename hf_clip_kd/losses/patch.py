"""Patch-token distillation."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import DistillationLoss, projection
from .features import CLIPDims, CLIPFeatures, FeatureRequest
from .resample import resample
from .tokens import READ_LAYER, check_token_dim, tokens_of

COSINE, SMOOTH_L1 = 0.9, 0.1  # shares of the two distances, as in AM-RADIO
# Least variance of a channel, as a share of its mean square: below it fp32 moments are mostly rounding.
VARIANCE_FLOOR = 1e-6


class PatchLoss(DistillationLoss):
    """
    The student imitates the teacher's patch tokens at the layer that a vision-language model reads.

    Mean over the patches of `0.9 * (1 - cos(z, n)) + 0.1 * SmoothL1(z, n)`, the latter a mean over channels, then mean
    over the images: `z` the student's tokens `(images, N, Cs)`, `n` the teacher's `(images, M, Ct)`, bilinearly resampled
    to the student's grid and standardised, each channel to mean 0 and variance 1 over the batch of all processes. So a
    channel counts the same whatever its scale, and the value means the same for every width. Where the widths differ, a
    learned `Linear` maps the student's tokens to `(images, N, Ct)`; where they are equal, the student's own tokens become
    the standardised ones. Texts play no part.

    After [AM-RADIO](https://huggingface.co/papers/2312.06709), which gave both distances and their shares, and
    [PHI-S](https://huggingface.co/papers/2410.01680), which standardises teachers; here per channel and by batch.
    Default weight 1. Nothing was reported on the CLIP-KD benchmark.

    Args:
        student ([`CLIPDims`]): Widths of the student's features, with `token_dim`.
        teacher ([`CLIPDims`]): Widths of the teacher's features, with `token_dim`.
        layer (`int`, *optional*, defaults to `-2`):
            Entry of the student's `hidden_states` to train; LLaVA reads the last but one.
        teacher_layer (`int`, *optional*, defaults to `-2`): Entry of the teacher's `hidden_states` to imitate.

    Raises:
        ValueError: If the width of either model's tokens is unknown, or the features hold no tokens.
    """

    needs_text = False
    teaches = "The teacher's patch tokens at the layer that a LLaVA reads."
    formula = "mean over patches of 0.9·(1 − cos(h, H)) + 0.1·SmoothL1(h, H), H standardised"
    paper = {
        "title": "AM-RADIO: Agglomerative Vision Foundation Model -- Reduce All Domains Into One",
        "id": "2312.06709",
    }
    reported = None

    def __init__(
        self, student: CLIPDims, teacher: CLIPDims, *, layer: int = READ_LAYER, teacher_layer: int = READ_LAYER
    ):
        super().__init__(student, teacher)  # whoever encodes chooses the layers, as `request` tells
        check_token_dim("patch", "student", student)
        check_token_dim("patch", "teacher", teacher)
        self.token_proj = projection(student, teacher, "token_dim")

    @classmethod
    def request(cls, *, layer: int = READ_LAYER, teacher_layer: int = READ_LAYER) -> FeatureRequest:
        return FeatureRequest(layer=layer, teacher_layer=teacher_layer, token_moments=True)

    def compute(self, student: CLIPFeatures, teacher: CLIPFeatures) -> Tensor:
        tokens = self.token_proj(tokens_of("patch", "student", student))
        # The moments are of the teacher's own grid. Bilinear weights add up to 1, so standardising could as well follow.
        targets = standardised(tokens_of("patch", "teacher", teacher), teacher.token_moments)
        targets = resample(targets, teacher.image_grid, student.image_grid)
        cosine = 1 - F.cosine_similarity(tokens, targets, dim=-1)
        absolute = F.smooth_l1_loss(tokens, targets, reduction="none").mean(dim=-1)
        return (COSINE * cosine + SMOOTH_L1 * absolute).mean(dim=1)


def standardised(tokens: Tensor, moments: Tensor | None = None) -> Tensor:
    """
    Tokens with mean 0 and variance 1 in each channel over a batch; a channel that never varies becomes 0.

    Args:
        tokens (`Tensor` of shape `(images, tokens, channels)`): Tokens of some images of the batch.
        moments (`Tensor` of shape `(batch, 2, channels)`, *optional*):
            Mean and mean square of each image's tokens, of the whole batch; `None` where `tokens` are the whole batch.
    """
    if moments is None:
        moments = torch.stack([tokens.mean(dim=1), tokens.square().mean(dim=1)], dim=1)
    mean, square = moments.mean(dim=0)
    variance = torch.maximum(square - mean.square(), VARIANCE_FLOOR * square)
    return (tokens - mean) / variance.clamp_min(torch.finfo(variance.dtype).tiny).sqrt()
