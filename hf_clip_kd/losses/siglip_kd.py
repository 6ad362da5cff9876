"""Distillation by sigmoids."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import DistillationLoss, inverse_temperature
from .features import CLIPDims, CLIPFeatures
from .parts.chunks import chunks
from .siglip import INITIAL_LOGIT_BIAS

BISECTIONS = 20  # This number leaves 2e-4 of an interval of twice the largest scale.


class SigLIPKDLoss(DistillationLoss):
    """
    Sigmoid distillation: the student imitates the teacher's probability that an image and a text are a pair.

    The loss is the binary divergence `KL(sigmoid(z') || sigmoid(z))`, a sum over texts and a mean over images.
    `z = logit_scale * image @ text.T + logit_bias` is the student's and `z'` the teacher's, each `(batch, batch)`.
    They are made in chunks, so the memory grows with the batch, not with its square. The loss is 0 at `z = z'`, and
    nowhere less. The sigmoid form is that of [MobileCLIP2](https://huggingface.co/papers/2508.20691)'s code. The
    divergence is not.

    A student without a `logit_bias` gets a learned one here, which is left out at export. A teacher without a bias,
    such as CLIP, gets one in each batch. At this bias its probabilities add up to the number of images.

    Default weight 1. The authors report no number for this loss alone.

    Args:
        student ([`CLIPDims`]): Widths of the student's features. `has_bias` is true if the student has a bias.
        teacher ([`CLIPDims`]): Widths of the teacher's features. They may differ from the student's.
        logit_scale (`float`, *optional*): Fixed scale of the student. The default is its own, learned scale.
        teacher_logit_scale (`float`, *optional*): Fixed scale of the teacher. The default is its own scale.
        teacher_logit_bias (`float`, *optional*): Fixed bias of the teacher. The default is its own, or else as above.
        upstream_compat (`bool`, *optional*, defaults to `False`):
            Compute the published number, `softplus(-y * z)` with `y = 2 * sigmoid(z') - 1` in place of a label. It has
            no finite optimum. For any `y`, only `z` going to infinity with the sign of `y` reduces it. A pair of which
            the teacher is unsure, `y = 0`, teaches nothing.
    """

    needs_others = True
    teaches = "The teacher's probability that an image and a text belong together, pair by pair."
    formula = "mean over images of Σ KL(σ(z') ‖ σ(z)), z = s·v·uᵀ + b, z' = t·V·Uᵀ + b'"
    paper = {"title": "MobileCLIP2: Improving Multi-Modal Reinforced Training", "id": "2508.20691"}
    reported = None

    def __init__(
        self,
        student: CLIPDims,
        teacher: CLIPDims,
        *,
        logit_scale: float | None = None,
        teacher_logit_scale: float | None = None,
        teacher_logit_bias: float | None = None,
        upstream_compat: bool = False,
    ):
        super().__init__(student, teacher)
        self.logit_scale = logit_scale
        self.teacher_logit_scale = teacher_logit_scale
        self.teacher_logit_bias = teacher_logit_bias
        self.distance = unbounded_distance if upstream_compat else divergence
        self.logit_bias = None if student.has_bias else nn.Parameter(torch.tensor([INITIAL_LOGIT_BIAS]))

    def compute(self, student: CLIPFeatures, teacher: CLIPFeatures) -> Tensor:
        text, teacher_text = student.text, teacher.text
        scale = inverse_temperature(student, self.logit_scale, "student", "logit_scale")
        bias = (student.logit_bias if self.logit_bias is None else self.logit_bias).to(text.dtype)
        teacher_scale = inverse_temperature(teacher, self.teacher_logit_scale, "teacher", "teacher_logit_scale")
        teacher_bias = self._teacher_bias(teacher, teacher_scale)

        def total(image: Tensor, teacher_image: Tensor) -> Tensor:
            logits = scale * image @ text.T + bias
            targets = teacher_scale * teacher_image @ teacher_text.T + teacher_bias
            return self.distance(logits, targets).sum()

        return sum(chunks(total, student.image, teacher.image, width=len(text))) / len(text)

    def _teacher_bias(self, teacher: CLIPFeatures, scale: Tensor) -> Tensor | float:
        if self.teacher_logit_bias is not None:
            return self.teacher_logit_bias
        return (
            calibrated_bias(teacher.image, teacher.text, scale) if teacher.logit_bias is None else teacher.logit_bias
        )


def divergence(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute `KL(sigmoid(targets) || sigmoid(logits))` in nats, element by element."""
    # `logsigmoid(-x)` is log(1 - sigmoid(x)). 1 - sigmoid(x) itself could round to 0, with an infinite logarithm.
    pair = targets.sigmoid() * (F.logsigmoid(targets) - F.logsigmoid(logits))
    return pair + (-targets).sigmoid() * (F.logsigmoid(-targets) - F.logsigmoid(-logits))


def unbounded_distance(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the published form: the teacher's probability, stretched to [-1, 1], in place of a label."""
    return F.softplus((1 - 2 * targets.sigmoid()) * logits)


@torch.no_grad()
def calibrated_bias(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """
    Find the bias at which `sigmoid(scale * image @ text.T + bias)` adds up to `batch`.

    Args:
        image, text (`Tensor` of shape `(batch, dim)`): Unit-norm embeddings.
        scale (0-dim `Tensor`): Factor on their similarities.
    """
    batch = len(image)

    def expected_pairs(bias: Tensor) -> Tensor:
        return sum(chunks(lambda rows: (scale * rows @ text.T + bias).sigmoid().sum(), image, width=batch))

    # No probability exceeds 1 / batch at the lower end, and none is below 1 / 2 at the upper end.
    low, high = -scale - math.log(batch), scale
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        too_few = expected_pairs(middle) < batch
        low, high = torch.where(too_few, middle, low), torch.where(too_few, high, middle)
    return (low + high) / 2
