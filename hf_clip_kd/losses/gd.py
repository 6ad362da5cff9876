"""Gradient distillation."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import DistillationLoss, inverse_temperature, projection
from .features import CLIPDims, CLIPFeatures
from .parts.chunks import chunks
from .parts.reduction import checked_reduction, reduce_width


class GDLoss(DistillationLoss):
    """
    Gradient loss: the student imitates the gradients of the contrastive loss at the teacher's embeddings.

    Each of both cross-entropies (images find texts, texts find images) has a gradient by the unit-norm images, and one
    by the texts. The loss is the squared distance of these four gradients, student against teacher. It is a sum over
    the four and a mean over the batch ([CLIP-KD](https://huggingface.co/papers/2307.12732)). For one direction, let `E
    = softmax(scale * image @ text.T) - identity`, of shape `(batch, batch)`. The gradients are then `scale / batch * E
    @ text` and `scale / batch * E.T @ image`, each `(batch, Dt)`. `E` is made in chunks, so the memory grows with the
    batch, not with its square. If the widths differ, a learned `Linear` maps the raw student embeddings `(batch, Ds)`
    to `(batch, Dt)` before they are normalised.

    Default weight 10, for a batch of 1024. A gradient is a mean over the batch, so the value falls with the batch's
    square. `10 * (batch / 1024) ** 2` is the same weight for another batch. The gradient of this loss is then about as
    large as that of `clip` at a scale of 100. At the scales of the first steps it is far smaller, because it grows
    with the cube of the scale.

    Reported with the task loss, in the published form and weight: 31.54 % ImageNet top-1. The student is a ViT-T/16
    from a ViT-B/16 on CC3M and CC12M. The task loss alone has 30.55 %.

    Args:
        student ([`CLIPDims`]): Widths of the student's features.
        teacher ([`CLIPDims`]): Widths of the teacher's features.
        logit_scale (`float`, *optional*): Fixed scale of the student. The default is its own, learned scale.
        teacher_logit_scale (`float`, *optional*): Fixed scale of the teacher. The default is its own scale.
        reduction (`str`, *optional*, defaults to `"sum"`):
            `"sum"` adds up over the teacher's width, so a weight means the same for every teacher. `"mean"` averages
            over the width.
        upstream_compat (`bool`, *optional*, defaults to `False`):
            Compute the published number. The authors' code divides by the scale where it should multiply. It therefore
            compares the gradients of another loss than the trained one. Their weight is 1e8. `"mean"` also becomes the
            default of `reduction`.

    Raises:
        ValueError: if `reduction` is neither `"sum"` nor `"mean"`.
    """

    needs_others = True
    teaches = "The gradient of the contrastive loss at the teacher's embeddings."
    formula = "mean over the batch of Σ ‖∇ − ∇'‖², four gradients such as ∇ = s/B · (softmax(s·p·qᵀ) − I)·q"
    paper = {"title": "CLIP-KD: An Empirical Study of CLIP Model Distillation", "id": "2307.12732"}
    reported = 31.54
    default_weight = 10.0

    def __init__(
        self,
        student: CLIPDims,
        teacher: CLIPDims,
        *,
        logit_scale: float | None = None,
        teacher_logit_scale: float | None = None,
        reduction: str | None = None,
        upstream_compat: bool = False,
    ):
        super().__init__(student, teacher)
        self.logit_scale = logit_scale
        self.teacher_logit_scale = teacher_logit_scale
        self.reduction = checked_reduction(self, reduction, upstream_compat)
        self.upstream_compat = upstream_compat
        self.image_proj = projection(student, teacher)
        self.text_proj = projection(student, teacher)

    def compute(self, student: CLIPFeatures, teacher: CLIPFeatures) -> Tensor:
        scale = inverse_temperature(student, self.logit_scale, "student", "logit_scale")
        teacher_scale = inverse_temperature(teacher, self.teacher_logit_scale, "teacher", "teacher_logit_scale")
        if self.upstream_compat:
            scale, teacher_scale = 1 / scale, 1 / teacher_scale
        image = F.normalize(self.image_proj(student.image_embeds), dim=-1)
        text = F.normalize(self.text_proj(student.text_embeds), dim=-1)
        own = [*gradients(image, text, scale), *gradients(text, image, scale)]
        targets = [
            *gradients(teacher.image, teacher.text, teacher_scale),
            *gradients(teacher.text, teacher.image, teacher_scale),
        ]
        squared = sum((a - b).square() for a, b in zip(own, targets, strict=True))
        return reduce_width(squared, self.reduction)


def gradients(queries: Tensor, keys: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """
    Compute the gradients of `cross_entropy(scale * queries @ keys.T, diagonal)` in closed form.

    Args:
        queries, keys (`Tensor` of shape `(batch, dim)`): Unit-norm embeddings. Equal rows belong together.
        scale (0-dim `Tensor`): Factor on their similarities.

    Returns:
        The gradients by `queries` and by `keys`, each of shape `(batch, dim)` and differentiable.
    """

    def expectations(rows: Tensor) -> tuple[Tensor, Tensor]:
        probabilities = (scale * rows @ keys.T).softmax(dim=-1)
        return probabilities @ keys, probabilities.T @ rows

    keys_of, queries_of = [], torch.zeros_like(keys)
    for keys_of_chunk, queries_of_chunk in chunks(expectations, queries, width=len(keys)):
        keys_of.append(keys_of_chunk)
        queries_of = queries_of + queries_of_chunk
    # A gradient is the mean under the softmax less the value of the right pair.
    return scale / len(keys) * (torch.cat(keys_of) - keys), scale / len(keys) * (queries_of - queries)
