"""Patch-text affinity distillation."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import DistillationLoss, Projection, inverse_temperature
from .chunks import chunks
from .features import CLIPDims, CLIPFeatures, FeatureRequest
from .resample import resample
from .tokens import READ_LAYER, check_token_dim, tokens_of


class PatchTextLoss(DistillationLoss):
    """
    The student imitates which texts of the batch the teacher sees in each patch of an image.

    For each patch `KL(softmax(T) || softmax(S))` over the teacher's texts of all processes, `T = t * u_t @ texts.T` and
    `S = s * u_s @ texts.T` of shape `(images, N, batch)`: `u_t` the teacher's patches in its joint embedding space, unit
    norm, bilinearly resampled to the student's grid, which is to resample its similarity maps; `u_s` the student's tokens
    `(images, N, Cs)` through a learned `Linear` to `(images, N, Dt)`, unit norm. That head is always there, since
    tokens lie in no joint space. Per image the mean over patches weighted by the teacher's confidence,
    `1 - entropy(softmax(T)) / log(batch)`, then the mean over images.

    The similarities are computed for a few images at a time, and again for the gradient: the memory grows with the
    batch, not with its square.

    Our formulation, and no published number. That distilling patches makes a student align them with texts is from
    [TIPSv2](https://huggingface.co/papers/2604.12012); the teacher's patches in the joint space, without any training,
    are from [MaskCLIP](https://huggingface.co/papers/2112.01071). Default weight 1.

    Args:
        student ([`CLIPDims`]): Widths of the student's features, with `token_dim`.
        teacher ([`CLIPDims`]): Widths of the teacher's features.
        layer (`int`, *optional*, defaults to `-2`):
            Entry of the student's `hidden_states` to train; LLaVA reads the last but one.
        logit_scale (`float`, *optional*): The student's `s`; the teacher's `t` if left out.
        teacher_logit_scale (`float`, *optional*): The teacher's `t`; its own `logit_scale` if left out.

    Raises:
        ValueError: If the width of the student's tokens is unknown, the features hold no tokens or patches, or the
            teacher has no scale and none is given.
    """

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
        super().__init__(student, teacher)  # whoever encodes chooses the layer, as `request` tells
        check_token_dim("patch_text", "student", student)
        self.logit_scale, self.teacher_logit_scale = logit_scale, teacher_logit_scale
        self.token_proj = Projection(student.token_dim, teacher.embed_dim)

    @classmethod
    def request(cls, *, layer: int = READ_LAYER, **options) -> FeatureRequest:
        return FeatureRequest(layer=layer, patch_embeds=True)

    def compute(self, student: CLIPFeatures, teacher: CLIPFeatures) -> Tensor:
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
    How differently two models see texts in the patches of images, weighted by how sure the teacher is.

    Args:
        tokens (`Tensor` of shape `(images, N, dim)`): The student's patches, scaled.
        patches (`Tensor` of shape `(images, N, dim)`): The teacher's.
        texts (`Tensor` of shape `(batch, dim)`): Texts with unit norm.

    Returns:
        `Tensor` of shape `(images,)`, in nats, between the least and the largest divergence among an image's patches.
    """
    logits, targets = (tokens @ texts.T).log_softmax(-1), (patches @ texts.T).log_softmax(-1)
    probabilities = targets.exp()
    divergence = (probabilities * (targets - logits)).sum(dim=-1)
    entropy = -(probabilities * targets).sum(dim=-1)
    eps = torch.finfo(entropy.dtype).eps
    # With one text there is nothing to be unsure of, and log(1) = 0. Rounding may leave more entropy than there can be.
    confidence = (1 - entropy / max(math.log(len(texts)), eps)).clamp_min(0)
    return (confidence * divergence).sum(dim=-1) / confidence.sum(dim=-1).clamp_min(eps)
