"""Contrastive relational distillation."""

from .base import inverse_temperature
from .features import CLIPDims, CLIPFeatures
from .similarity import Similarities, SimilarityLoss, Term


class CRDLoss(SimilarityLoss):
    """
    Ranking loss: the student ranks all texts for an image, and all images for a text, like the teacher.

    `KL(softmax(T) || softmax(S))` is taken over the rows. The loss is its mean over the batch and over both directions
    ([CLIP-KD](https://huggingface.co/papers/2307.12732)). `S = logit_scale * image @ text.T` is the student's and `T`
    the teacher's, each `(batch, batch)` and with its own scale. The teacher may have any width. Default weight 1.

    Reported with the task loss: 31.94 % ImageNet top-1 for a ViT-T/16 from a ViT-B/16 on CC3M and CC12M. The task loss
    alone has 30.55 %.

    Args:
        student ([`CLIPDims`]): Widths of the student's features.
        teacher ([`CLIPDims`]): Widths of the teacher's features.
        logit_scale (`float`, *optional*):
            Fixed factor on the student's similarities. The default is its own, learned scale.
        teacher_logit_scale (`float`, *optional*):
            Fixed factor on the teacher's similarities. The default is its own scale.
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
