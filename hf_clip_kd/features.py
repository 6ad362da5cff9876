"""What a dual encoder returns: the features that losses, the trainer and evaluators exchange."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass
class CLIPFeatures:
    """
    Features of one batch from a student or a teacher. Whatever the model does not have is `None`.

    Args:
        image_embeds (`Tensor` of shape `(batch, dim)`, *optional*):
            Projected image embeddings as the model returns them, before normalisation.
        text_embeds (`Tensor` of shape `(batch, dim)`, *optional*):
            Projected text embeddings as the model returns them, before normalisation.
        logit_scale (0-dim `Tensor`, *optional*):
            The factor on the cosine similarities itself (inverse temperature), so already exponentiated.
        logit_bias (0-dim `Tensor`, *optional*):
            The offset added to the scaled similarities (SigLIP models).
        image_tokens (`Tensor` of shape `(batch, tokens, channels)`, *optional*):
            Spatial tokens of the image tower, row by row, without class or register tokens.
        image_grid (`tuple[int, int]`, *optional*):
            Rows and columns of `image_tokens`; their product is `tokens`.
    """

    image_embeds: Tensor | None = None
    text_embeds: Tensor | None = None
    logit_scale: Tensor | None = None
    logit_bias: Tensor | None = None
    image_tokens: Tensor | None = None
    image_grid: tuple[int, int] | None = None

    @cached_property
    def image(self) -> Tensor | None:
        """`image_embeds` with unit norm, shape `(batch, dim)`; computed once and shared by all losses."""
        return None if self.image_embeds is None else F.normalize(self.image_embeds, dim=-1)

    @cached_property
    def text(self) -> Tensor | None:
        """`text_embeds` with unit norm, shape `(batch, dim)`; computed once and shared by all losses."""
        return None if self.text_embeds is None else F.normalize(self.text_embeds, dim=-1)


@dataclass(frozen=True)
class CLIPDims:
    """
    Widths a loss needs to know before the first batch, to build its heads.

    Args:
        embed_dim (`int`): Width of the joint embedding space.
        token_dim (`int`, *optional*): Channels of the image tokens; `None` if the model gives no tokens.
        has_text (`bool`): Whether the model has a text tower.
        has_bias (`bool`): Whether the model has a `logit_bias`.
    """

    embed_dim: int
    token_dim: int | None = None
    has_text: bool = True
    has_bias: bool = False

    @classmethod
    def of(cls, model) -> CLIPDims:
        """The widths of a transformers dual encoder, read from its config (SigLIP keeps them in its text tower)."""
        config = model.config
        embed_dim = config.projection_dim if hasattr(config, "projection_dim") else config.text_config.projection_size
        return cls(embed_dim, has_bias=getattr(model, "logit_bias", None) is not None)


def pooled(output) -> Tensor:
    """
    The embedding in what `get_image_features` or `get_text_features` returned.

    Args:
        output (`Tensor` or `~transformers.utils.ModelOutput`):
            transformers 5 returns an output whose `pooler_output` is the projected embedding; transformers 4
            and [`CLIPTeacher`] return the embedding itself.

    Returns:
        `Tensor` of shape `(batch, dim)`, not normalised.
    """
    return output if isinstance(output, torch.Tensor) else output.pooler_output
