"""Distillation from the mean of several teachers."""

from collections.abc import Sequence

from .base import inverse_temperature, serving
from .features import CLIPDims, CLIPFeatures
from .schedule import first_weights
from .similarity import Similarities, SimilarityLoss, Term


class ReinforcedLoss(SimilarityLoss):
    """
    Cross-entropy against the mean ranking of several teachers, on real and on generated captions.

    The cross-entropy of `softmax(S)` against the mean of the teachers' `softmax(T_k)` is taken over the rows. It is a
    mean over the batch and over both directions ([MobileCLIP](https://huggingface.co/papers/2311.17049)). `S =
    logit_scale * image @ text.T` is the student's and `T_k` that of teacher `k`, each `(batch, batch)` and with its
    own scale. The same loss on the generated captions is added. The teachers may have any widths, and a `weight` in
    the mean. A single teacher is allowed. Teachers without texts are left out. Default weight 1. The authors use 0.75
    beside 0.25 of `clip`, or 1 alone.

    The authors report it only together with their reinforced data, so the loss alone has no number.

    Args:
        student ([`CLIPDims`]): Widths of the student's features.
        teacher ([`CLIPDims`]): Widths of the teacher's features. `members` holds those of each teacher of an ensemble.
        logit_scale (`float`, *optional*):
            Fixed factor on the student's similarities. The default is its own, learned scale.
        teacher_logit_scale (`float` or `list[float]`, *optional*):
            Fixed factor for all teachers, or for each teacher with texts. The default is their own scales.
        synthetic (`bool`, *optional*, defaults to `True`):
            Read the generated captions, if the batch has them.

    Raises:
        ValueError: if `teacher_logit_scale` is a list of another length than there are teachers.
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
        if not isinstance(teacher_logit_scale, Sequence):
            teacher_logit_scale = [teacher_logit_scale] * teachers
        if len(teacher_logit_scale) != teachers:
            raise ValueError(
                f"teacher_logit_scale={teacher_logit_scale!r} of the loss 'reinforced' holds "
                f"{len(teacher_logit_scale)} values for {teachers} teachers. Allowed are one number for all, or a "
                "list with one for each. Write for example "
                f"`losses={{'reinforced': {{'teacher_logit_scale': {[100.0] * teachers}}}}}`."
            )
        self.logit_scale = logit_scale
        self.teacher_logit_scales = tuple(teacher_logit_scale)
        self.synthetic = synthetic
        self.weigh(first_weights(member.weight for member in teacher.members))

    def weigh(self, members: tuple[float, ...]) -> None:
        weights = [members[index] for index in self.serving]
        self.on = [number for number, weight in enumerate(weights) if weight > 0]
        self.shares = tuple(weights[number] / sum(weights) for number in self.on)

    def asked(self) -> set[int]:
        return {self.serving[number] for number in self.on} if self.serving else super().asked()

    def terms(self, student: CLIPFeatures, teacher: CLIPFeatures) -> dict[Term, float]:
        members = [teacher.members[self.serving[number]] for number in self.on] or [teacher]
        fixed_scales = [self.teacher_logit_scales[number] for number in self.on or [0]]
        scale = inverse_temperature(student, self.logit_scale, "student", "logit_scale")
        scales = [
            inverse_temperature(member, fixed, "teacher", "teacher_logit_scale")
            for member, fixed in zip(members, fixed_scales, strict=True)
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
