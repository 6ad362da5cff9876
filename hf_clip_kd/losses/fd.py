"""Feature distillation."""

import torch.nn.functional as F
from torch import Tensor

from .base import DistillationLoss, projection
from .features import CLIPDims, CLIPFeatures
from .parts.reduction import checked_reduction, reduce_width


class FDLoss(DistillationLoss):
    """
    Feature loss: the student imitates the direction of the teacher's image and text embeddings.

    The loss is the squared distance of the unit-norm embeddings, added for images and texts, a mean over the batch
    ([CLIP-KD](https://huggingface.co/papers/2307.12732)). Each part is `2 * (1 - cos)`, and the sum is between 0 and
    8. If the widths differ, a learned `Linear` maps the raw student embeddings `(batch, Ds)` to `(batch, Dt)` before
    they are normalised.

    Default weight 4. The published weight 2000 on a mean over 512 channels equals 3.9 on a sum.

    Reported with the task loss: 34.23 % ImageNet top-1 for a ViT-T/16 from a ViT-B/16 on CC3M and CC12M. The task loss
    alone has 30.55 %.

    Args:
        student ([`CLIPDims`]): Widths of the student's features.
        teacher ([`CLIPDims`]): Widths of the teacher's features.
        reduction (`str`, *optional*, defaults to `"sum"`):
            `"sum"` adds up over the teacher's width, so a weight means the same for every teacher. `"mean"` averages
            over it, as the paper does. Its weight 2000 for a teacher of width 512 is 3.9 with `"sum"`.
        upstream_compat (`bool`, *optional*, defaults to `False`):
            Compute the published number: `"mean"` becomes the default of `reduction`. Its weight is 2000.

    Raises:
        ValueError: if `reduction` is neither `"sum"` nor `"mean"`.
    """

    teaches = "The direction of the teacher's embeddings."
    formula = "mean over the batch of ‖p − V‖² + ‖q − U‖²"
    paper = {"title": "CLIP-KD: An Empirical Study of CLIP Model Distillation", "id": "2307.12732"}
    reported = 34.23
    default_weight = 4.0

    def __init__(
        self, student: CLIPDims, teacher: CLIPDims, *, reduction: str | None = None, upstream_compat: bool = False
    ):
        super().__init__(student, teacher)
        self.reduction = checked_reduction(self, reduction, upstream_compat)
        self.image_proj = projection(student, teacher)
        self.text_proj = projection(student, teacher)

    def compute(self, student: CLIPFeatures, teacher: CLIPFeatures) -> Tensor:
        return self._distance(self.image_proj(student.image_embeds), teacher.image) + self._distance(
            self.text_proj(student.text_embeds), teacher.text
        )

    def _distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        squared = (F.normalize(student, dim=-1) - teacher).square()
        return reduce_width(squared, self.reduction)
