"""Patch-text affinity distillation."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import DistillationLoss, Projection, inverse_temperature
from .features import CLIPDims, CLIPFeatures, FeatureRequest
from .parts.chunks import chunks
from .parts.resample import resample
from .parts.tokens import READ_LAYER, check_token_dim, tokens_of


class PatchTextLoss(DistillationLoss):
    """
    Patch-text loss: the student imitates the texts of the batch that the teacher sees in each patch.

    The loss compares each patch with the teacher's texts of all processes, by `KL(softmax(T) || softmax(S))`.
    `T = t * u_t @ texts.T` and `S = s * u_s @ texts.T` have shape `(images, N, batch)`. `u_t` are the teacher's
    patches in its joint embedding space, with unit norm. They are bilinearly resampled to the student's grid, which
    equals resampling the similarity maps. `u_s` are the student's tokens `(images, N, Cs)` through a learned `Linear`
    to `(images, N, Dt)`, with unit norm. This head is always there, because tokens lie in no joint space. The mean
    over an image's patches is weighted by the teacher's confidence, `1 - entropy(softmax(T)) / log(batch)`. The loss
    is the mean over images.

    The similarities are computed in chunks of images, and again for the gradient. The memory therefore grows with the
    batch, not with its square.

    The formulation is ours and has no published number. [TIPSv2](https://huggingface.co/papers/2604.12012) shows that
    distilled patches align with texts. The teacher's patches in the joint space, without any training, are from
    [MaskCLIP](https://huggingface.co/papers/2112.01071). Default weight 1.

    Args:
        student ([`CLIPDims`]): Widths of the student's features, with `token_dim`.
        teacher ([`CLIPDims`]): Widths of the teacher's features.
        layer (`int`, *optional*, defaults to `-2`):
            Entry of the student's `hidden_states` to train. LLaVA reads the last but one.
        logit_scale (`float`, *optional*): The student's `s`. The default is the teacher's `t`.
        teacher_logit_scale (`float`, *optional*): The teacher's `t`. The default is its own `logit_scale`.

    Raises:
        ValueError: if the width of the student's tokens is unknown, or the features hold no tokens or patches.
        ValueError: if the teacher has no scale and none is given.
    """

    needs_others = True
    teaches = "The texts of the batch that the teacher sees in each patch."
    formula = "mean over patches of KL(softmax(t·H·Uᵀ) ‖ softmax(s·h·Uᵀ)), weighted by confidence"
    paper = {
        "title": "TIPSv2: Advancing Vision-Language Pretraining with Enhanced Patch-Text Alignment",
        "id": "2604.12012",
    }
    reported = None

    def __init__(
        self,
        student: CLIPDims,
        teacher: CLIPDims,
        *,
        layer: int = READ_LAYER,
        logit_scale: float | None = None,
        teacher_logit_scale: float | None = None,
    ):
        super().__init__(student, teacher)  # The caller that encodes reads the layer from `request`.
        self.layer, student = layer, student.at(layer)
        check_token_dim("patch_text", "student", student)
        self.logit_scale, self.teacher_logit_scale = logit_scale, teacher_logit_scale
        self.token_proj = Projection(student.token_dim, teacher.embed_dim)

    @classmethod
    def request(cls, *, layer: int = READ_LAYER, **options) -> FeatureRequest:
        return FeatureRequest(layer=layer, patch_embeds=True)

    def compute(self, student: CLIPFeatures, teacher: CLIPFeatures) -> Tensor:
        student = student.at(self.layer)
        tokens = self.token_proj(tokens_of("patch_text", "student", student))
        patches = F.normalize(tokens_of("patch_text", "teacher", teacher, "patch_embeds"), dim=-1)
        patches = resample(patches, teacher.image_grid, student.image_grid)
        target_scale = inverse_temperature(teacher, self.teacher_logit_scale, "teacher", "teacher_logit_scale")
        scale = target_scale if self.logit_scale is None else target_scale.new_tensor(self.logit_scale)
        tokens, patches = scale * F.normalize(tokens, dim=-1), target_scale * patches
        per_image = partial(disagreement, texts=teacher.text)
        return torch.cat(list(chunks(per_image, tokens, patches, width=tokens.shape[1] * len(teacher.text))))


def disagreement(tokens: Tensor, patches: Tensor, texts: Tensor) -> Tensor:
    """
    Compute the divergence of two models' texts in the patches of images, weighted by the teacher's confidence.

    Args:
        tokens (`Tensor` of shape `(images, N, dim)`): The student's patches, scaled.
        patches (`Tensor` of shape `(images, N, dim)`): The teacher's patches, scaled.
        texts (`Tensor` of shape `(batch, dim)`): Texts with unit norm.

    Returns:
        `Tensor` of shape `(images,)`, in nats, between the smallest and largest divergence of an image's patches.
    """
    logits, targets = (tokens @ texts.T).log_softmax(-1), (patches @ texts.T).log_softmax(-1)
    probabilities = targets.exp()
    divergence = (probabilities * (targets - logits)).sum(dim=-1)
    entropy = -(probabilities * targets).sum(dim=-1)
    eps = torch.finfo(entropy.dtype).eps
    # The entropy of one text is log(1) = 0. Rounding may leave more entropy than possible.
    confidence = (1 - entropy / max(math.log(len(texts)), eps)).clamp_min(0)
    return (confidence * divergence).sum(dim=-1) / confidence.sum(dim=-1).clamp_min(eps)
