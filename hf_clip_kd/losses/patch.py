"""Patch-token distillation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from .base import DistillationLoss
from .features import CLIPDims, CLIPFeatures, FeatureRequest
from .parts.heads import build_head, check_hidden_dim
from .parts.pairs import LayerPair, layer_pairs
from .parts.resample import check_resampling, common_grid, resample
from .parts.statistics import BATCH, NONE, build_statistics, check_statistics
from .parts.tokens import READ_LAYER, check_token_dim, tokens_of
from .summary import CLASS_TOKEN, SummaryDistance, check_summary

COSINE, SMOOTH_L1 = 0.9, 0.1  # Shares of the two distances, as in AM-RADIO.


class PatchLoss(DistillationLoss):
    """
    Token loss: the student imitates the teacher's patch tokens at the layer that a vision-language model reads.

    The loss is the mean over patches and images of `0.9 * (1 - cos(z, n)) + 0.1 * SmoothL1(z, n)`. SmoothL1 is a mean
    over channels. `z` are the student's tokens `(images, N, Cs)`. `n` are the teacher's tokens `(images, M, Ct)`,
    bilinearly resampled to the student's grid and standardised. Each channel then has mean 0 and variance 1 over the
    batch of all processes. Channels of any scale therefore count the same, and the value means the same for every
    width. If the widths differ, a learned `Linear` maps the student's tokens to `(images, N, Ct)`. If they are equal,
    the student's own tokens become the standardised ones. The loss reads no texts.

    Both distances and their shares are from [AM-RADIO](https://huggingface.co/papers/2312.06709).
    [PHI-S](https://huggingface.co/papers/2410.01680) standardises teachers. This loss does so per channel and by
    batch. Default weight 1. The CLIP-KD benchmark has no number for it.

    The options change this into the losses of [EUPE](https://huggingface.co/papers/2603.22387) and of AM-RADIO.
    `losses: eupe` and `losses: am_radio` set them. With several pairs of layers, the value is the weighted sum of
    their values.

    Args:
        student ([`CLIPDims`]): Widths of the student's features, with `token_dim`.
        teacher ([`CLIPDims`]): Widths of the teacher's features, with `token_dim`.
        layer (`int`, *optional*, defaults to `-2`):
            Entry of the student's `hidden_states` to train. LLaVA reads the last but one.
        teacher_layer (`int` or `str`, *optional*, defaults to `-2`):
            Entry of the teacher's `hidden_states` to imitate. `"projector"` is what a language model gets of them: the
            output of the projector of the teacher's LLaVA.
        pairs (`list`, *optional*):
            Several pairs `[layer, teacher_layer]` or `[layer, teacher_layer, weight]`, in the place of `layer` and
            `teacher_layer`. Each has a head and statistics of its own.
        hidden_dim (`int` or `"teacher"`, *optional*):
            Hidden channels of an MLP in the place of the `Linear`, see [`MLPHead`]. Equal widths get it, too.
            `"teacher"` is the teacher's width.
        statistics (`int` or `str`, *optional*, defaults to `"batch"`):
            `"batch"` takes mean and variance from each batch. A number N takes them from the first N batches, see
            [`FixedStatistics`]. `"none"` leaves the teacher's tokens as they are.
        summary (`str`, *optional*):
            `"class_token"` adds the cosine distance of the class tokens at the first pair of layers. `"image_embeds"`
            adds that of the pooled embeddings. Heads and statistics are of the kinds above, see [`SummaryDistance`].
        summary_weight (`float`, *optional*, defaults to 1.0): Weight of this distance.
        grid (`str`, *optional*, defaults to `"student"`):
            Compare on the grid of the `"student"`, of the `"teacher"`, or on the `"larger"` of both.
        interpolation (`str`, *optional*, defaults to `"bilinear"`): Resample in this way, or `"bicubic"`.

    Raises:
        ValueError: if the width of either model's tokens is unknown, or the features hold no tokens.
        ValueError: if an option has a value that is not allowed.
    """

    needs_text = False
    teaches = "The teacher's patch tokens at the layer that a LLaVA reads."
    formula = "mean over patches of 0.9·(1 − cos(h, H)) + 0.1·SmoothL1(h, H), H standardised"
    paper = {
        "title": "AM-RADIO: Agglomerative Vision Foundation Model -- Reduce All Domains Into One",
        "id": "2312.06709",
    }
    reported = None

    def __init__(
        self,
        student: CLIPDims,
        teacher: CLIPDims,
        *,
        layer: int = READ_LAYER,
        teacher_layer: int | str = READ_LAYER,
        pairs: Sequence[Sequence[Any]] | None = None,
        hidden_dim: int | str | None = None,
        statistics: int | str = BATCH,
        summary: str | None = None,
        summary_weight: float = 1.0,
        grid: str = "student",
        interpolation: str = "bilinear",
    ):
        super().__init__(student, teacher)  # The caller that encodes reads the layers from `request`.
        check_hidden_dim("patch", hidden_dim)
        check_statistics("patch", statistics)
        check_resampling("patch", grid, interpolation)
        self.pairs = layer_pairs("patch", layer, teacher_layer, pairs)
        check_summary("patch", summary, summary_weight, self.pairs[0].teacher_layer)
        self.grid, self.interpolation = grid, interpolation
        dims = [(student.at(pair.layer), teacher.at(pair.teacher_layer)) for pair in self.pairs]
        for student_dims, teacher_dims in dims:
            check_token_dim("patch", "student", student_dims)
            check_token_dim("patch", "teacher", teacher_dims)
        heads = [build_head(own.token_dim, target.token_dim, hidden_dim) for own, target in dims]
        # The only head of a run without `pairs` keeps the name that its checkpoints know.
        self.token_proj = heads[0] if pairs is None else nn.ModuleList(heads)
        self.statistics = nn.ModuleList(build_statistics(target.token_dim, statistics) for _, target in dims)
        self.summary = None
        if summary is not None:
            self.summary = SummaryDistance(summary, summary_weight, *dims[0], hidden_dim, statistics)

    @classmethod
    def request(
        cls,
        *,
        layer: int = READ_LAYER,
        teacher_layer: int | str = READ_LAYER,
        pairs: Sequence[Sequence[Any]] | None = None,
        statistics: int | str = BATCH,
        summary: str | None = None,
        **options,
    ) -> FeatureRequest:
        read = layer_pairs("patch", layer, teacher_layer, pairs)
        return FeatureRequest.of_layers(
            (pair.layer for pair in read),
            (pair.teacher_layer for pair in read),
            token_moments=statistics != NONE,
            class_token=summary == CLASS_TOKEN,
        )

    def compute(self, student: CLIPFeatures, teacher: CLIPFeatures) -> Tensor:
        heads = self.token_proj if isinstance(self.token_proj, nn.ModuleList) else [self.token_proj]
        value = sum(
            pair.weight * self._distance(pair, head, statistics, student, teacher)
            for pair, head, statistics in zip(self.pairs, heads, self.statistics, strict=True)
        )
        if self.summary is None:
            return value
        first = self.pairs[0]
        # The summaries are those of all processes, so this number is the same for every image.
        return value + self.summary(student.at(first.layer), teacher.at(first.teacher_layer))

    def _distance(
        self, pair: LayerPair, head: nn.Module, statistics: nn.Module, student: CLIPFeatures, teacher: CLIPFeatures
    ) -> Tensor:
        """Compute the distance at a pair of layers, a value per image."""
        student, teacher = student.at(pair.layer), teacher.at(pair.teacher_layer)
        tokens = head(tokens_of("patch", "student", student))
        # The moments belong to the teacher's own grid. Weights of a resampling add up to 1, so the order does not
        # matter.
        targets = statistics(tokens_of("patch", "teacher", teacher), teacher.token_moments)
        grid = common_grid(student.image_grid, teacher.image_grid, self.grid)
        tokens = resample(tokens, student.image_grid, grid, self.interpolation)
        targets = resample(targets, teacher.image_grid, grid, self.interpolation)
        cosine = 1 - F.cosine_similarity(tokens, targets, dim=-1)
        absolute = F.smooth_l1_loss(tokens, targets, reduction="none").mean(dim=-1)
        return (COSINE * cosine + SMOOTH_L1 * absolute).mean(dim=1)
