"""Distillation from the mean of several teachers."""

from collections.abc import Sequence

from .base import inverse_temperature, serving
from .features import CLIPDims, CLIPFeatures
from .similarity import Similarities, SimilarityLoss, Term


class ReinforcedLoss(SimilarityLoss):
    """
    Makes the student agree with the mean opinion of several teachers, on real and on generated captions.

    The cross-entropy of `softmax(S)` against the mean of the teachers' `softmax(T_k)` over the rows, mean over the batch,
    mean of both directions, with `S = logit_scale * image @ text.T` of the student and `T_k` the same of teacher `k`, each
    `(batch, batch)` and each with its own scale; the same on the generated captions is added
    ([MobileCLIP](https://huggingface.co/papers/2311.17049)). The teachers may have any widths and a `weight` in
    the mean; a single one is allowed, and those without texts are left out.
    Default weight 1; the authors weigh it 0.75 against 0.25 of `clip`, or 1 alone.

    Reported by the authors only together with their reinforced data, so there is no number for the loss alone.

    Args:
        student ([`CLIPDims`]): Widths of the student's features.
        teacher ([`CLIPDims`]): Widths of the teacher's features; `members` holds those of each teacher of an ensemble.
        logit_scale (`float`, *optional*):
            A fixed factor on the student's similarities; by default its own, learned one.
        teacher_logit_scale (`float` or `list[float]`, *optional*):
            The same for all teachers, or for each of them that has texts.
        synthetic (`bool`, *optional*, defaults to `True`):
            Whether to look at the generated captions, where the batch has them.

    Raises:
        ValueError: If `teacher_logit_scale` is a list of another length than there are teachers.
    """

    takes_ensemble = True
    teaches = "The mean ranking of several teachers, on real and on generated captions."
    formula = "(CE(mean of softmax Tₖ, S) + CE(mean of softmax Tₖᵀ, Sᵀ)) / 2"
    paper = {
        "title": "MobileCLIP: Fast Image-Text Models through Multi-Modal Reinforced Training",
        "id": "2311.17049",
    }
    reported = None

    def __init__(
        self,
        student: CLIPDims,
        teacher: CLIPDims,
        *,
        logit_scale: float | None = None,
        teacher_logit_scale: float | Sequence[float] | None = None,
        synthetic: bool = True,
    ):
        super().__init__(student, teacher)
        self.serving = serving(type(self), teacher)
        teachers = len(self.serving) or 1
        weights = [teacher.members[index].weight for index in self.serving]
        self.shares = tuple(weight / sum(weights) for weight in weights)
        if not isinstance(teacher_logit_scale, Sequence):
            teacher_logit_scale = [teacher_logit_scale] * teachers
        if len(teacher_logit_scale) != teachers:
            raise ValueError(
                f"teacher_logit_scale={teacher_logit_scale!r} of the loss 'reinforced' holds {len(teacher_logit_scale)} "
                f"values for {teachers} teachers. Allowed are one number for all, or a list with one for each. Write for "
                f"example `losses={{'reinforced': {{'teacher_logit_scale': {[100.0] * teachers}}}}}`."
            )
        self.logit_scale = logit_scale
        self.teacher_logit_scales = tuple(teacher_logit_scale)
        self.synthetic = synthetic

    def terms(self, student: CLIPFeatures, teacher: CLIPFeatures) -> dict[Term, float]:
        members = [teacher.members[index] for index in self.serving] or [teacher]
        scale = inverse_temperature(student, self.logit_scale, "student", "logit_scale")
        scales = [
            inverse_temperature(member, fixed, "teacher", "teacher_logit_scale")
            for member, fixed in zip(members, self.teacher_logit_scales, strict=True)
        ]
        captions = ["text"]
        if self.synthetic and student.synthetic_text is not None:
            captions.append("synthetic_text")
        terms = {}
        for name in captions:
            logits = Similarities(student.image, getattr(student, name), scale)
            targets = (Similarities(m.image, getattr(m, name), t) for m, t in zip(members, scales, strict=True))
            terms[Term(logits, tuple(targets), shares=self.shares)] = 1.0
        return terms
