"""Distillation across the two models' spaces."""

from .base import inverse_temperature
from .features import CLIPDims, CLIPFeatures
from .icl import ICLLoss
from .similarity import Similarities, Term


class CrossKDLoss(ICLLoss):
    """
    Ranking loss across the two models: the student's images rank the teacher's texts like the teacher's images do.

    The student's texts rank the teacher's images in the same way. The loss is the mean of
    `KL(softmax(T) || softmax(x * p @ U.T))` and `KL(softmax(T.T) || softmax(x * q @ V.T))` over the rows and the
    batch. `T = t * V @ U.T`, and all matrices are `(batch, batch)`. `p`, `q` are the student's unit-norm images and
    texts, `V`, `U` the teacher's. `x` is a learned scale, and `t` the teacher's own. If the widths differ, a learned
    `Linear` maps the raw student embeddings `(batch, Ds)` to `(batch, Dt)` before they are normalised. Default weight
    1.

    The loss is in the code of [CLIP-KD](https://huggingface.co/papers/2307.12732), not in the paper. The authors
    report no number for it.

    Args:
        student ([`CLIPDims`]): Widths of the student's features.
        teacher ([`CLIPDims`]): Widths of the teacher's features.
        teacher_logit_scale (`float`, *optional*):
            Fixed factor on the teacher's similarities. The default is its own scale.
        upstream_compat (`bool`, *optional*, defaults to `False`):
            Compute the published number, with the logarithm of `x` in place of `x`, as in `icl`.
    """

    teaches = "The teacher's ranking of its own texts and images, for the student's images and texts."
    formula = "(KL(softmax T ‖ softmax(x·p·Uᵀ)) + KL(softmax Tᵀ ‖ softmax(x·q·Vᵀ))) / 2"
    paper = {"title": "CLIP-KD: An Empirical Study of CLIP Model Distillation", "id": "2307.12732"}
    reported = None

    def __init__(
        self,
        student: CLIPDims,
        teacher: CLIPDims,
        *,
        teacher_logit_scale: float | None = None,
        upstream_compat: bool = False,
    ):
        super().__init__(student, teacher, upstream_compat=upstream_compat)
        self.teacher_logit_scale = teacher_logit_scale

    def terms(self, student: CLIPFeatures, teacher: CLIPFeatures) -> dict[Term, float]:
        scale = inverse_temperature(teacher, self.teacher_logit_scale, "teacher", "teacher_logit_scale")
        image_logits, text_logits = self.logits(student, teacher)
        image_target = Similarities(teacher.image, teacher.text, scale)
        text_target = Similarities(teacher.text, teacher.image, scale)
        return {
            Term(image_logits, (image_target,), divergence=True, columns=False): 0.5,
            Term(text_logits, (text_target,), divergence=True, columns=False): 0.5,
        }
