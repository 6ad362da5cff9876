"""Class token or pooled embedding as a partner of a loss on patches."""

import torch.nn.functional as F
from torch import Tensor, nn

from .features import PROJECTOR, CLIPDims, CLIPFeatures, Layer
from .parts.heads import build_head
from .parts.numbers import is_finite
from .parts.statistics import build_statistics

CLASS_TOKEN, IMAGE_EMBEDS = "class_token", "image_embeds"


class SummaryDistance(nn.Module):
    """
    Weighted cosine distance of the summaries of images, `1 - cos(head(s), S)`, a mean over the batch.

    `s` of shape `(batch, Ds)` are the student's class tokens or raw embeddings. `S` of shape `(batch, Dt)` are the
    teacher's, standardised if the tokens are. The distance is from
    [AM-RADIO](https://huggingface.co/papers/2312.06709).

    Args:
        summary (`str`): `"class_token"` or `"image_embeds"`.
        weight (`float`): Weight of the distance.
        student ([`CLIPDims`]): Widths of the student's features, at the layer of its class token.
        teacher ([`CLIPDims`]): Widths of the teacher's features, at the layer of its class token.
        hidden_dim (`int` or `"teacher"`, *optional*): Option of the loss, see [`build_head`].
        statistics (`int` or `str`): Option of the loss, see [`build_statistics`].
    """

    def __init__(
        self,
        summary: str,
        weight: float,
        student: CLIPDims,
        teacher: CLIPDims,
        hidden_dim: int | str | None,
        statistics: int | str,
    ):
        super().__init__()
        self.summary, self.weight = summary, weight
        width = "token_dim" if summary == CLASS_TOKEN else "embed_dim"
        self.proj = build_head(getattr(student, width), getattr(teacher, width), hidden_dim)
        self.statistics = build_statistics(getattr(teacher, width), statistics)

    def forward(self, student: CLIPFeatures, teacher: CLIPFeatures) -> Tensor:
        """Compute the weighted distance, 0-dim, from features of one layer."""
        own, target = (self._of(owner, values) for owner, values in (("student", student), ("teacher", teacher)))
        distance = 1 - F.cosine_similarity(self.proj(own), self.statistics(target), dim=-1)
        return self.weight * distance.mean()

    def _of(self, owner: str, features: CLIPFeatures) -> Tensor:
        values = getattr(features, self.summary)
        if values is None:
            raise ValueError(
                f"The {owner}'s features have no `{self.summary}`, and the option `summary` of a loss needs it. "
                "Features must hold all that `requested(losses)` names. Pass it: "
                f"`CLIPFeatures(..., {self.summary}=values)`."
            )
        return values


def check_summary(loss: str, summary: str | None, weight: float, teacher_layer: Layer) -> None:
    """
    Check the options `summary` and `summary_weight` of a loss, whose summaries are at a layer of the teacher.

    Raises:
        ValueError: if one of them is not allowed.
    """
    if summary not in (None, CLASS_TOKEN, IMAGE_EMBEDS):
        raise ValueError(
            f"summary={summary!r} is no summary of an image in the loss {loss!r}. Allowed are {CLASS_TOKEN!r}, "
            f"{IMAGE_EMBEDS!r} and None. Write for example `losses={{{loss!r}: {{'summary': {CLASS_TOKEN!r}}}}}`."
        )
    if summary == CLASS_TOKEN and teacher_layer == PROJECTOR:
        raise ValueError(
            f"summary={summary!r} of the loss {loss!r} has no partner at teacher_layer={PROJECTOR!r}, because a "
            f"projector maps patches alone. Allowed are {IMAGE_EMBEDS!r}, and a layer of the tower as the first of "
            f"`pairs`. Write for example `losses={{{loss!r}: {{'summary': {CLASS_TOKEN!r}, 'pairs': [[-2, -2], [-2, "
            f"{PROJECTOR!r}]]}}}}`."
        )
    if not is_finite(weight) or weight <= 0:
        raise ValueError(
            f"summary_weight={weight!r} is no weight in the loss {loss!r}. It must be a finite number above 0. Leave "
            f"`summary` out for none, or write for example `losses={{{loss!r}: {{'summary_weight': 1.0}}}}`."
        )
