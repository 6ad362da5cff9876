"""CLIP's contrastive loss."""

from .base import inverse_temperature
from .features import CLIPDims, CLIPFeatures
from .similarity import Similarities, SimilarityLoss, Term


class CLIPLoss(SimilarityLoss):
    """
    Contrastive loss: the student finds the text of each image, and the image of each text, in the batch.

    The loss is the mean of both directions' cross-entropy over `S = logit_scale * image @ text.T`, of shape
    `(batch, batch)`, with the diagonal as classes ([CLIP](https://huggingface.co/papers/2103.00020)). It needs no
    teacher. Default weight 1.

    Reported by [CLIP-KD](https://huggingface.co/papers/2307.12732): 30.55 % ImageNet top-1 for a ViT-T/16 trained on
    CC3M and CC12M with this loss alone.

    Args:
        student ([`CLIPDims`]): Widths of the student's features.
        teacher ([`CLIPDims`], *optional*): Not used.
        logit_scale (`float`, *optional*):
            Fixed factor on the similarities. The default is the student's own, learned scale.
        synthetic (`bool`, *optional*, defaults to `False`):
            Add the same loss on the generated captions, if the batch has them
            ([MobileCLIP](https://huggingface.co/papers/2311.17049)).
    """

    needs_teacher = False
    teaches = "The pairs of the batch: the text of each image, and the image of each text."
    formula = "(CE(S) + CE(Sᵀ)) / 2"
    paper = {"title": "Learning Transferable Visual Models From Natural Language Supervision", "id": "2103.00020"}
    reported = 30.55

    def __init__(
        self,
        student: CLIPDims,
        teacher: CLIPDims | None = None,
        *,
        logit_scale: float | None = None,
        synthetic: bool = False,
    ):
        super().__init__(student, teacher)
        self.logit_scale = logit_scale
        self.synthetic = synthetic

    def terms(self, student: CLIPFeatures, teacher: CLIPFeatures | None) -> dict[Term, float]:
        scale = inverse_temperature(student, self.logit_scale, "student", "logit_scale")
        terms = {Term(Similarities(student.image, student.text, scale)): 1.0}
        if self.synthetic and student.synthetic_text is not None:
            terms[Term(Similarities(student.image, student.synthetic_text, scale))] = 1.0
        return terms
