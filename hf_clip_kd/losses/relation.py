"""Relational distillation."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import DistillationLoss
from .chunks import chunks
from .features import CLIPDims, CLIPFeatures, FeatureRequest
from .resample import resample
from .tokens import READ_LAYER, check_token_dim, tokens_of

LEVELS = ("batch", "tokens")


class RelationLoss(DistillationLoss):
    """
    Relation loss: the student imitates the teacher's similarity of any two images, or of any two places of an image.

    The loss is the mean squared difference of all cosine similarities within a batch, `||v v' - V V'||^2 / batch ** 2`
    ([KUEA](https://huggingface.co/papers/2506.02557)). `v` of shape `(batch, Ds)` are the student's unit-norm
    embeddings, and `V` of shape `(batch, Dt)` the teacher's. The value is the mean for images and texts, or for images
    alone if a model has no texts. At the level of tokens, the loss is the same within each image, a mean over images:
    `||Z Z' - Y Y'||^2 / N ** 2`. `Z` of shape `(images, N, channels)` are the student's unit-norm tokens, and `Y` the
    teacher's, resampled to the student's grid. The widths may differ, and the loss needs no head. The matrices are
    made in chunks, so the memory grows with the batch, not with its square.

    Default weight 10, because cosines differ by tenths or less and the value is their mean square. The authors bring a
    CLIP image tower closer to DINOv2 with it. They report no distillation into a smaller tower.

    Args:
        student ([`CLIPDims`]): Widths of the student's features.
        teacher ([`CLIPDims`]): Widths of the teacher's features.
        level (`str`, *optional*, defaults to `"batch"`): `"batch"` compares embeddings, `"tokens"` image tokens.
        layer (`int`, *optional*, defaults to -2): Entry of the student's hidden states with the tokens.
        teacher_layer (`int`, *optional*, defaults to -2): Entry of the teacher's hidden states with the tokens.

    Raises:
        ValueError: if `level` is neither `"batch"` nor `"tokens"`.
    """

    needs_text = False
    teaches = "The teacher's similarity of any two images, or of any two places of one image."
    formula = "‖v·vᵀ − V·Vᵀ‖² / B², or the same of the tokens of each image"
    paper = {
        "title": "Kernel-based Unsupervised Embedding Alignment for Enhanced Visual Representation in "
        "Vision-language Models",
        "id": "2506.02557",
    }
    reported = None
    default_weight = 10.0

    @classmethod
    def request(
        cls, *, level: str = "batch", layer: int = READ_LAYER, teacher_layer: int = READ_LAYER
    ) -> FeatureRequest:
        return FeatureRequest(layer=layer, teacher_layer=teacher_layer) if level == "tokens" else FeatureRequest()

    def __init__(
        self,
        student: CLIPDims,
        teacher: CLIPDims,
        *,
        level: str = "batch",
        layer: int = READ_LAYER,
        teacher_layer: int = READ_LAYER,
    ):
        super().__init__(student, teacher)
        if level not in LEVELS:
            raise ValueError(
                f"level={level!r} is no level of the loss 'relation'. Allowed are {list(LEVELS)}. Write for example "
                "`losses={'relation': {'level': 'tokens'}}`."
            )
        if level == "tokens":
            check_token_dim("relation", "student", student)
            check_token_dim("relation", "teacher", teacher)
        self.level = level
        self.needs_others = level == "batch"

    def compute(self, student: CLIPFeatures, teacher: CLIPFeatures) -> Tensor:
        if self.level == "tokens":
            tokens, targets = tokens_of("relation", "student", student), tokens_of("relation", "teacher", teacher)
            return token_distance(tokens, resample(targets, teacher.image_grid, student.image_grid))
        value = batch_distance(student.image, teacher.image)
        if student.text is None or teacher.text is None:
            return value
        return (value + batch_distance(student.text, teacher.text)) / 2


def batch_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Compute the mean squared difference of the cosines of all pairs of rows, 0-dim.

    Args:
        student (`Tensor` of shape `(batch, Ds)`), teacher (`Tensor` of shape `(batch, Dt)`): Unit-norm embeddings.
    """
    # Differences are taken element by element. The terms of the expanded square nearly cancel for similar models.
    total = partial(_squared, others=student, teacher_others=teacher)
    return sum(chunks(total, student, teacher, width=len(student))) / len(student) ** 2


def _squared(rows: Tensor, teacher_rows: Tensor, others: Tensor, teacher_others: Tensor) -> Tensor:
    return (rows @ others.T - teacher_rows @ teacher_others.T).square().sum()


def token_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Compute the same among the tokens of each image, `(images,)`, from raw `(images, N, channels)` on one grid."""
    student, teacher = F.normalize(student, dim=-1), F.normalize(teacher, dim=-1)
    return torch.cat(list(chunks(_token_distance, student, teacher, width=student.shape[1] ** 2)))


def _token_distance(student: Tensor, teacher: Tensor) -> Tensor:
    return (student @ student.mT - teacher @ teacher.mT).square().mean(dim=(1, 2))
