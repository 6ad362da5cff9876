"""Patch-token distillation."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import DistillationLoss, projection
from .features import CLIPDims, CLIPFeatures, FeatureRequest
from .resample import resample
from .tokens import READ_LAYER, check_token_dim, tokens_of

COSINE, SMOOTH_L1 = 0.9, 0.1  # Shares of the two distances, as in AM-RADIO.
# Smallest variance of a channel, as a share of its mean square. Smaller fp32 variances are mostly rounding.
VARIANCE_FLOOR = 1e-6


class PatchLoss(DistillationLoss):
    """
    Token loss: the student imitates the teacher's patch tokens at the layer that a vision-language model reads.

    The loss is the mean over patches and images of `0.9 * (1 - cos(z, n)) + 0.1 * SmoothL1(z, n)`. SmoothL1 is a mean
    over channels. `z` are the student's tokens `(images, N, Cs)`. `n` are the teacher's tokens `(images, M, Ct)`,
    bilinearly resampled to the student's grid and standardised. Each channel then has mean 0 and variance 1 over the
    batch of all processes. Channels of any scale therefore count the same, and the value means the same for every
    width. If the widths differ, a learned `Linear` maps the student's tokens to `(images, N, Ct)`. If they are equal,
    the student's own tokens become the standardised ones. The loss reads no texts.

    Both distances and their shares are from [AM-RADIO](https://huggingface.co/papers/2312.06709).
    [PHI-S](https://huggingface.co/papers/2410.01680) standardises teachers. This loss does so per channel and by
    batch. Default weight 1. The CLIP-KD benchmark has no number for it.

    Args:
        student ([`CLIPDims`]): Widths of the student's features, with `token_dim`.
        teacher ([`CLIPDims`]): Widths of the teacher's features, with `token_dim`.
        layer (`int`, *optional*, defaults to `-2`):
            Entry of the student's `hidden_states` to train. LLaVA reads the last but one.
        teacher_layer (`int`, *optional*, defaults to `-2`): Entry of the teacher's `hidden_states` to imitate.

    Raises:
        ValueError: if the width of either model's tokens is unknown, or the features hold no tokens.
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
        super().__init__(student, teacher)  # The caller that encodes reads the layers from `request`.
        check_token_dim("patch", "student", student)
        check_token_dim("patch", "teacher", teacher)
        self.token_proj = projection(student, teacher, "token_dim")

    @classmethod
    def request(cls, *, layer: int = READ_LAYER, teacher_layer: int = READ_LAYER) -> FeatureRequest:
        return FeatureRequest(layer=layer, teacher_layer=teacher_layer, token_moments=True)

    def compute(self, student: CLIPFeatures, teacher: CLIPFeatures) -> Tensor:
        tokens = self.token_proj(tokens_of("patch", "student", student))
        # The moments belong to the teacher's own grid. Bilinear weights add up to 1, so the order does not matter.
        targets = standardised(tokens_of("patch", "teacher", teacher), teacher.token_moments)
        targets = resample(targets, teacher.image_grid, student.image_grid)
        cosine = 1 - F.cosine_similarity(tokens, targets, dim=-1)
        absolute = F.smooth_l1_loss(tokens, targets, reduction="none").mean(dim=-1)
        return (COSINE * cosine + SMOOTH_L1 * absolute).mean(dim=1)


def standardised(tokens: Tensor, moments: Tensor | None = None) -> Tensor:
    """
    Standardise tokens to mean 0 and variance 1 in each channel over a batch. A constant channel becomes 0.

    Args:
        tokens (`Tensor` of shape `(images, tokens, channels)`): Tokens of images of the batch.
        moments (`Tensor` of shape `(batch, 2, channels)`, *optional*):
            Mean and mean square of each image's tokens, for the whole batch. `None` if `tokens` are the whole batch.
    """
    if moments is None:
        moments = torch.stack([tokens.mean(dim=1), tokens.square().mean(dim=1)], dim=1)
    mean, square = moments.mean(dim=0)
    variance = torch.maximum(square - mean.square(), VARIANCE_FLOOR * square)
    return (tokens - mean) / variance.clamp_min(torch.finfo(variance.dtype).tiny).sqrt()
