"""Affinity mimicking."""

from .crd import CRDLoss


class AffinityLoss(CRDLoss):
    """
    Makes the student share out each image over the texts, and each text over the images, as the teacher does.

    The cross-entropy of `softmax(S)` against `softmax(T)` over the rows, mean over the batch, mean of both directions,
    with `S = logit_scale * image @ text.T` of the student and `T` the same of the teacher, each `(batch, batch)`
    ([TinyCLIP](https://huggingface.co/papers/2309.12314)): `crd` plus the teacher's entropy, so its gradient is that of
    `crd` and its value is not 0 where the student is the teacher. OpenCLIP's distillation is this loss, too. Default
    weight 1.

    Reported by the authors only together with weight inheritance, so there is no number for the loss alone.

    Args:
        student ([`CLIPDims`]): Widths of the student's features.
        teacher ([`CLIPDims`]): Widths of the teacher's features.
        logit_scale (`float`, *optional*):
            A fixed factor on the student's similarities; by default its own, learned one. TinyCLIP fixes both at 50.
        teacher_logit_scale (`float`, *optional*):
            The same for the teacher.
    """

    teaches = "The teacher's shares of all texts for an image, and of all images for a text."
    formula = "(CE(softmax T, S) + CE(softmax Tᵀ, Sᵀ)) / 2"
    paper = {
        "title": "TinyCLIP: CLIP Distillation via Affinity Mimicking and Weight Inheritance",
        "id": "2309.12314",
    }
    reported = None
    divergence = False
