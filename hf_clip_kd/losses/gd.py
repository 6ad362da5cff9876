"""Gradient distillation."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import DistillationLoss, inverse_temperature, projection
from .chunks import chunks
from .features import CLIPDims, CLIPFeatures
from .reduction import checked_reduction, reduce_width


class GDLoss(DistillationLoss):
    """
    The student imitates how the contrastive loss pulls at the teacher's image and text embeddings.

    The squared distances of the gradients of both cross-entropies (images find texts, texts find images) with respect to
    both unit-norm embeddings, student against teacher: four of them, summed, mean over the batch
    ([CLIP-KD](https://huggingface.co/papers/2307.12732)). With `E = softmax(scale * image @ text.T) - identity`,
    `(batch, batch)`, those of one direction are `scale / batch * E @ text` and `scale / batch * E.T @ image`, each
    `(batch, Dt)`; `E` is made in chunks, so the memory grows with the batch, not with its square. Where the widths differ,
    a learned `Linear` maps the raw student embeddings `(batch, Ds)` to `(batch, Dt)` before they are normalised.

    Default weight 10, for a batch of 1024: a gradient is a mean over the batch, so the value falls with its square, and
    `10 * (batch / 1024) ** 2` weighs the same in another. There this loss pulls at the embeddings about as hard as `clip` at
    a scale of 100, and far more gently at the scales where training starts, because its own gradient grows with the cube
    of the scale. Reported, for ViT-T/16 taught by ViT-B/16 on CC3M+CC12M, ImageNet top-1: 31.54 with the published form
    and weight, and 30.55 for the task alone.

    Args:
        student ([`CLIPDims`]): Widths of the student's features.
        teacher ([`CLIPDims`]): Widths of the teacher's features.
        logit_scale (`float`, *optional*): The student's scale; by default its own, learned one.
        teacher_logit_scale (`float`, *optional*): The teacher's scale; by default its own.
        reduction (`str`, *optional*, defaults to `"sum"`):
            `"sum"` adds up over the teacher's width, so a weight means the same for every teacher; `"mean"` averages over it.
        upstream_compat (`bool`, *optional*, defaults to `False`):
            Computes the published number: the authors' code divides by the scale where it should multiply, so it compares
            the gradients of another loss than the one trained. Their weight is 1e8. Also makes `"mean"` the default of
            `reduction`.

    Raises:
        ValueError: If `reduction` is neither `"sum"` nor `"mean"`.
    """

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
    The gradients of `cross_entropy(scale * queries @ keys.T, diagonal)`, by their closed form.

    Args:
        queries, keys (`Tensor` of shape `(batch, dim)`): Unit-norm embeddings; row by row they belong together.
        scale (0-dim `Tensor`): The factor on their similarities.

    Returns:
        The gradients by `queries` and by `keys`, each of shape `(batch, dim)`, themselves differentiable.
    """

    def expectations(rows: Tensor) -> tuple[Tensor, Tensor]:
        probabilities = (scale * rows @ keys.T).softmax(dim=-1)
        return probabilities @ keys, probabilities.T @ rows

    keys_of, queries_of = [], torch.zeros_like(keys)
    for keys_of_chunk, queries_of_chunk in chunks(expectations, queries, width=len(keys)):
        keys_of.append(keys_of_chunk)
        queries_of = queries_of + queries_of_chunk
    # What is expected of the softmax, less what is right.
    return scale / len(keys) * (torch.cat(keys_of) - keys), scale / len(keys) * (queries_of - queries)
