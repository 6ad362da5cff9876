"""Affinity mimicking."""

from .crd import CRDLoss


class AffinityLoss(CRDLoss):
    """
    Cross-entropy of the student's ranking of texts and images against the teacher's ranking.

    The cross-entropy of `softmax(S)` against `softmax(T)` is taken over the rows. It is a mean over the batch and over
    both directions ([TinyCLIP](https://huggingface.co/papers/2309.12314)). `S = logit_scale * image @ text.T` is the
    student's and `T` the teacher's, each `(batch, batch)`. The loss is `crd` plus the teacher's entropy. Its gradient
    is that of `crd`. Its value is not 0 for a student that equals the teacher. OpenCLIP's distillation is also this
    loss. Default weight 1.

    The authors report it only together with weight inheritance, so the loss alone has no number.

    Args:
        student ([`CLIPDims`]): Widths of the student's features.
        teacher ([`CLIPDims`]): Widths of the teacher's features.
        logit_scale (`float`, *optional*):
            Fixed factor on the student's similarities. The default is its own, learned scale. TinyCLIP fixes both at
            50.
        teacher_logit_scale (`float`, *optional*):
            Fixed factor on the teacher's similarities. The default is its own scale.
    """

    teaches = "The teacher's shares of all texts for an image, and of all images for a text."
    formula = "(CE(softmax T, S) + CE(softmax Tᵀ, Sᵀ)) / 2"
    paper = {
        "title": "TinyCLIP: CLIP Distillation via Affinity Mimicking and Weight Inheritance",
        "id": "2309.12314",
    }
    reported = None
    divergence = False
