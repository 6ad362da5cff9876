"""Contrastive relational distillation."""

from .base import inverse_temperature
from .features import CLIPDims, CLIPFeatures
from .similarity import Similarities, SimilarityLoss, Term


class CRDLoss(SimilarityLoss):
    """
    Makes the student rank all texts for an image, and all images for a text, as the teacher does.

    `KL(softmax(T) || softmax(S))` over the rows, mean over the batch, mean of both directions, with
    `S = logit_scale * image @ text.T` of the student and `T` the same of the teacher, each `(batch, batch)` and each
    with its own scale ([CLIP-KD](https://huggingface.co/papers/2307.12732)). The teacher may have any width. Default
    weight 1.

    Reported with the task, ViT-T/16 from ViT-B/16 on CC3M and CC12M: 31.94 % ImageNet top-1, 30.55 % without.

    Args:
        student ([`CLIPDims`]): Widths of the student's features.
        teacher ([`CLIPDims`]): Widths of the teacher's features.
        logit_scale (`float`, *optional*):
            A fixed factor on the student's similarities; by default its own, learned one.
        teacher_logit_scale (`float`, *optional*):
            The same for the teacher.
    """

    teaches = "The teacher's ranking of all texts for an image, and of all images for a text."
    formula = "(KL(softmax T ‖ softmax S) + KL(softmax Tᵀ ‖ softmax Sᵀ)) / 2"
    paper = {"title": "CLIP-KD: An Empirical Study of CLIP Model Distillation", "id": "2307.12732"}
    reported = 31.94
    divergence = True

    def __init__(
        self,
        student: CLIPDims,
        teacher: CLIPDims,
        *,
        logit_scale: float | None = None,
        teacher_logit_scale: float | None = None,
    ):
        super().__init__(student, teacher)
        self.logit_scale = logit_scale
        self.teacher_logit_scale = teacher_logit_scale

    def terms(self, student: CLIPFeatures, teacher: CLIPFeatures) -> dict[Term, float]:
        scale = inverse_temperature(student, self.logit_scale, "student", "logit_scale")
        teacher_scale = inverse_temperature(teacher, self.teacher_logit_scale, "teacher", "teacher_logit_scale")
        logits = Similarities(student.image, student.text, scale)
        target = Similarities(teacher.image, teacher.text, teacher_scale)
        return {Term(logits, (target,), divergence=self.divergence): 1.0}
