"""Distillation of similarities to the teacher's images."""

import torch.nn.functional as F

from .base import projection
from .features import CLIPDims, CLIPFeatures
from .relation import check_temperature
from .similarity import Similarities, SimilarityLoss, Term


class InterImageLoss(SimilarityLoss):
    """
    Inter-image loss: the student's image is as similar to the teacher's images of the batch as the teacher's image is.

    The loss is the mean over the batch of `KL(softmax(V @ V.T / t) || softmax(p @ V.T / t))`, matrices of shape
    `(batch, batch)`. `V` are the teacher's unit-norm images `(batch, Dt)`, and `p` the student's. `t` is a fixed
    temperature. If the widths differ, a learned `Linear` maps the raw student embeddings `(batch, Ds)` to `(batch,
    Dt)` before they are normalised. The loss reads no texts.

    [SEED](https://huggingface.co/papers/2101.04731) compares with a queue of former images.
    [lightly-train](https://docs.lightly.ai/train) does so at the temperature 0.07, and its queue holds the batch, too.
    Here the batch of all processes takes the place of the queue. Use large batches. Default weight 1.

    Args:
        student ([`CLIPDims`]): Widths of the student's features.
        teacher ([`CLIPDims`]): Widths of the teacher's features.
        temperature (`float`, *optional*, defaults to 0.07): Divisor of the cosines.

    Raises:
        ValueError: if the temperature is not above 0.
    """

    needs_text = False
    teaches = "The teacher's similarity of an image to all images of the batch, as the teacher sees these."
    formula = "KL(softmax(V·Vᵀ/τ) ‖ softmax(p·Vᵀ/τ)), τ a temperature"
    paper = {"title": "SEED: Self-supervised Distillation For Visual Representation", "id": "2101.04731"}
    reported = None

    def __init__(self, student: CLIPDims, teacher: CLIPDims, *, temperature: float = 0.07):
        super().__init__(student, teacher)
        check_temperature("inter_image", temperature)
        self.temperature = temperature
        self.image_proj = projection(student, teacher)

    def terms(self, student: CLIPFeatures, teacher: CLIPFeatures) -> dict[Term, float]:
        images = F.normalize(self.image_proj(student.image_embeds), dim=-1)
        scale = images.new_tensor(1 / self.temperature)
        target = Similarities(teacher.image, teacher.image, scale)
        return {Term(Similarities(images, teacher.image, scale), (target,), divergence=True, columns=False): 1.0}
