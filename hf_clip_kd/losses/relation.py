"""Relational distillation."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import DistillationLoss, Projection
from .features import CLIPDims, CLIPFeatures, FeatureRequest
from .parts.chunks import chunks
from .parts.numbers import is_finite
from .parts.resample import check_resampling, common_grid, resample
from .parts.tokens import READ_LAYER, check_token_dim, tokens_of

LEVELS = ("batch", "tokens")
FORMS = ("square", "kl")


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

    The form `"kl"` compares the softmaxes of the rows, `KL(softmax(Y Y' / t) || softmax(Z Z' / t))`, a mean over the
    rows. `t` is the temperature. The form, its temperature and the head before it are those of
    [lightly-train](https://docs.lightly.ai/train), in which the weight is 1.

    Default weight 10, because cosines differ by tenths or less and the value is their mean square. The authors bring a
    CLIP image tower closer to DINOv2 with it. They report no distillation into a smaller tower.

    Args:
        student ([`CLIPDims`]): Widths of the student's features.
        teacher ([`CLIPDims`]): Widths of the teacher's features.
        level (`str`, *optional*, defaults to `"batch"`): `"batch"` compares embeddings, `"tokens"` image tokens.
        layer (`int`, *optional*, defaults to -2): Entry of the student's hidden states with the tokens.
        teacher_layer (`int` or `str`, *optional*, defaults to -2):
            Entry of the teacher's hidden states with the tokens, or `"projector"`, see [`PatchLoss`].
        form (`str`, *optional*, defaults to `"square"`):
            `"square"` compares cosines, `"kl"` the softmaxes of the rows.
        temperature (`float`, *optional*, defaults to 0.07): Divisor of the cosines in the form `"kl"`.
        head (`bool`, *optional*, defaults to `False`):
            Map the student's tokens to the teacher's width by a learned `Linear` first.
        grid (`str`, *optional*, defaults to `"student"`):
            Compare tokens on the grid of the `"student"`, of the `"teacher"`, or on the `"larger"` of both.

    Raises:
        ValueError: if an option has a value that is not allowed.
    """

    needs_text = False
    teaches = "The teacher's similarity of any two images, or of any two places of one image."
    formula = "‖v·vᵀ − V·Vᵀ‖² / B², or the same of the tokens of each image, or KL of the rows' softmaxes"
    paper = {
        "title": "Kernel-based Unsupervised Embedding Alignment for Enhanced Visual Representation in "
        "Vision-language Models",
        "id": "2506.02557",
    }
    reported = None
    default_weight = 10.0

    @classmethod
    def request(
        cls, *, level: str = "batch", layer: int = READ_LAYER, teacher_layer: int | str = READ_LAYER, **options
    ) -> FeatureRequest:
        return FeatureRequest(layer=layer, teacher_layer=teacher_layer) if level == "tokens" else FeatureRequest()

    def __init__(
        self,
        student: CLIPDims,
        teacher: CLIPDims,
        *,
        level: str = "batch",
        layer: int = READ_LAYER,
        teacher_layer: int | str = READ_LAYER,
        form: str = "square",
        temperature: float = 0.07,
        head: bool = False,
        grid: str = "student",
    ):
        super().__init__(student, teacher)
        for option, value, allowed in (("level", level, LEVELS), ("form", form, FORMS)):
            if value not in allowed:
                raise ValueError(
                    f"{option}={value!r} is no {option} of the loss 'relation'. Allowed are {list(allowed)}. Write "
                    f"for example `losses={{'relation': {{{option!r}: {allowed[1]!r}}}}}`."
                )
        check_temperature("relation", temperature)
        check_resampling("relation", grid, "bilinear")
        if head and level == "batch":
            raise ValueError(
                "head=True at level='batch' of the loss 'relation', which compares embeddings without a head. A head "
                "needs level='tokens'. Write for example `losses={'relation': {'level': 'tokens', 'head': True}}`."
            )
        self.level, self.form, self.temperature, self.grid = level, form, temperature, grid
        self.layer, self.teacher_layer = layer, teacher_layer
        self.token_proj = torch.nn.Identity()
        if level == "tokens":
            own, target = student.at(layer), teacher.at(teacher_layer)
            check_token_dim("relation", "student", own)
            check_token_dim("relation", "teacher", target)
            if head:
                self.token_proj = Projection(own.token_dim, target.token_dim)
        self.needs_others = level == "batch"

    def compute(self, student: CLIPFeatures, teacher: CLIPFeatures) -> Tensor:
        if self.level == "tokens":
            return self._of_tokens(student.at(self.layer), teacher.at(self.teacher_layer))
        value = self._of_batch(student.image, teacher.image)
        if student.text is None or teacher.text is None:
            return value
        return (value + self._of_batch(student.text, teacher.text)) / 2

    def _of_batch(self, student: Tensor, teacher: Tensor) -> Tensor:
        if self.form == "kl":
            return batch_divergence(student, teacher, self.temperature)
        return batch_distance(student, teacher)

    def _of_tokens(self, student: CLIPFeatures, teacher: CLIPFeatures) -> Tensor:
        tokens, targets = tokens_of("relation", "student", student), tokens_of("relation", "teacher", teacher)
        grid = common_grid(student.image_grid, teacher.image_grid, self.grid)
        tokens = resample(self.token_proj(tokens), student.image_grid, grid)
        targets = resample(targets, teacher.image_grid, grid)
        if self.form == "kl":
            return token_divergence(tokens, targets, self.temperature)
        return token_distance(tokens, targets)


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


def batch_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Compute the mean over rows of the KL divergence of the softmaxes of their cosines to all rows, 0-dim.

    Args:
        student (`Tensor` of shape `(batch, Ds)`), teacher (`Tensor` of shape `(batch, Dt)`): Unit-norm embeddings.
        temperature (`float`): Divisor of the cosines.
    """
    total = partial(_divergence, others=student, teacher_others=teacher, temperature=temperature)
    return sum(part.sum() for part in chunks(total, student, teacher, width=len(student))) / len(student)


def token_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Compute the same among the tokens of each image, `(images,)`, from raw `(images, N, channels)` on one grid."""
    student, teacher = F.normalize(student, dim=-1), F.normalize(teacher, dim=-1)
    per_image = partial(_token_divergence, temperature=temperature)
    return torch.cat(list(chunks(per_image, student, teacher, width=student.shape[1] ** 2)))


def _token_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return _divergence(student, teacher, student, teacher, temperature).mean(dim=1)


def _divergence(
    rows: Tensor, teacher_rows: Tensor, others: Tensor, teacher_others: Tensor, temperature: float
) -> Tensor:
    """Compute the KL divergence of each row, `(..., rows)`."""
    logits = (rows @ others.mT / temperature).log_softmax(dim=-1)
    targets = (teacher_rows @ teacher_others.mT / temperature).log_softmax(dim=-1)
    return F.kl_div(logits, targets, reduction="none", log_target=True).sum(dim=-1)


def check_temperature(loss: str, temperature: float) -> None:
    """
    Check the option `temperature` of a loss.

    Raises:
        ValueError: if it is not a finite number above 0.
    """
    if not is_finite(temperature) or temperature <= 0:
        raise ValueError(
            f"temperature={temperature!r} divides no cosine in the loss {loss!r}. It must be a finite number above 0. "
            f"Write for example `losses={{{loss!r}: {{'temperature': 0.07}}}}`."
        )
