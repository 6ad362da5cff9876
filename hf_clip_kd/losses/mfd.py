"""Masked feature distillation."""

from dataclasses import replace

from torch import Tensor

from .fd import FDLoss
from .features import CLIPDims, CLIPFeatures, FeatureRequest


class MFDLoss(FDLoss):
    """
    The student imitates the teacher's embedding of a whole image from a random part of its patches.

    As [`FDLoss`], but the student's image embeddings `(batch, Ds)` come from a second pass that sees only
    `1 - mask_ratio` of the patches; the texts and the teacher's images are whole
    ([CLIP-KD](https://huggingface.co/papers/2307.12732)). The student's image tower must be able to leave patches out;
    ViTs are, convnets are not.

    Default weight 4, that is the published 2000 times the mean over a teacher 512 wide, rounded. Reported, for ViT-T/16
    taught by ViT-B/16 on CC3M+CC12M, ImageNet top-1: 34.09, and 30.55 for the task alone. The authors' released code
    masks nothing; `mask_ratio=0` is what it computes.

    Args:
        student ([`CLIPDims`]): Widths of the student's features.
        teacher ([`CLIPDims`]): Widths of the teacher's features.
        mask_ratio (`float`, *optional*, defaults to `0.75`):
            Share of the patches hidden from the student, at least 0 and less than 1.
        reduction (`str`, *optional*, defaults to `"sum"`):
            Over the teacher's width, `"sum"` or `"mean"`, as in [`FDLoss`].
        upstream_compat (`bool`, *optional*, defaults to `False`):
            Computes the published number: makes `"mean"` the default of `reduction`. Its weight is 2000.

    Raises:
        ValueError: If `mask_ratio` is outside `[0, 1)`, or `reduction` is neither `"sum"` nor `"mean"`.
    """

    teaches = "The teacher's embeddings of whole images, from a quarter of the patches."
    formula = "mean over the batch of ‖p − V‖² + ‖q − U‖², p from the patches left"
    paper = {"title": "CLIP-KD: An Empirical Study of CLIP Model Distillation", "id": "2307.12732"}
    reported = 34.09

    def __init__(
        self,
        student: CLIPDims,
        teacher: CLIPDims,
        *,
        mask_ratio: float = 0.75,
        reduction: str | None = None,
        upstream_compat: bool = False,
    ):
        if not 0 <= mask_ratio < 1:
            raise ValueError(
                f"mask_ratio={mask_ratio!r} of the loss 'mfd' is no share of patches to hide. Allowed are numbers of at "
                "least 0 and less than 1, for example `losses={'mfd': {'mask_ratio': 0.75}}`."
            )
        super().__init__(student, teacher, reduction=reduction, upstream_compat=upstream_compat)

    @classmethod
    def request(cls, *, mask_ratio: float = 0.75, **options) -> FeatureRequest:
        return FeatureRequest(mask_ratio=mask_ratio)

    def compute(self, student: CLIPFeatures, teacher: CLIPFeatures) -> Tensor:
        if student.masked_image_embeds is None:
            raise ValueError(
                "The student's features have no `masked_image_embeds`, and MFDLoss compares them with the teacher's. "
                "Encode the images once more with patches dropped, as `DistillationModel` does where `losses` names "
                "'mfd': `CLIPFeatures(..., masked_image_embeds=embeds)`."
            )
        return super().compute(replace(student, image_embeds=student.masked_image_embeds), teacher)
