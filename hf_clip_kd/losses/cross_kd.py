"""Distillation across the two models' spaces."""

from .base import inverse_temperature
from .features import CLIPDims, CLIPFeatures
from .icl import ICLLoss
from .similarity import Similarities, Term


class CrossKDLoss(ICLLoss):
    """
    Makes the student's images rank the teacher's texts as the teacher's images do, and the same for texts.

    The mean of `KL(softmax(T) || softmax(x * p @ U.T))` and `KL(softmax(T.T) || softmax(x * q @ V.T))` over the rows, mean
    over the batch, with `T = t * V @ U.T`, all `(batch, batch)`: `p`, `q` the student's unit-norm images and texts, `V`,
    `U` the teacher's, `x` a learned scale, `t` the teacher's own (in the code of
    [CLIP-KD](https://huggingface.co/papers/2307.12732), beside the paper's objectives). Where the widths differ, a learned
    `Linear` maps the raw student embeddings `(batch, Ds)` to `(batch, Dt)` before they are normalised. Default weight 1.

    The authors report no number for it.

    Args:
        student ([`CLIPDims`]): Widths of the student's features.
        teacher ([`CLIPDims`]): Widths of the teacher's features.
        teacher_logit_scale (`float`, *optional*):
            A fixed factor on the teacher's similarities; by default its own.
        upstream_compat (`bool`, *optional*, defaults to `False`):
            Computes the published number, with the logarithm of `x` in its place, as in `icl`.
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
