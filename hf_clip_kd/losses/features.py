"""Features of a dual encoder, which losses, the trainer and evaluators exchange."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property

import torch.nn.functional as F
from torch import Tensor

from .answers import Answers, Captions


@dataclass
class CLIPFeatures:
    """
    Features of one batch from a student or a teacher. Features that the model does not have are `None`.

    Embeddings belong to the whole batch, that is to all processes. Tokens belong to the `images` of this process,
    because only losses that compare single images read them.

    Args:
        image_embeds (`Tensor` of shape `(batch, dim)`, *optional*):
            Projected image embeddings as the model returns them, before normalisation.
        text_embeds (`Tensor` of shape `(batch, dim)`, *optional*):
            Projected text embeddings as the model returns them, before normalisation.
        logit_scale (0-dim `Tensor`, *optional*):
            Factor on the cosine similarities (inverse temperature), already exponentiated.
        logit_bias (0-dim `Tensor`, *optional*):
            Offset added to the scaled similarities (SigLIP models).
        masked_image_embeds (`Tensor` of shape `(batch, dim)`, *optional*):
            The student's image embeddings from a random part of the patches.
        synthetic_text_embeds (`Tensor` of shape `(batch, dim)`, *optional*):
            Embeddings of a generated caption of each image.
        image_tokens (`Tensor` of shape `(images, tokens, channels)`, *optional*):
            Spatial tokens of the image tower at the layer that a loss asked for, row by row. Class and register tokens
            are not among them.
        image_grid (`tuple[int, int]`, *optional*):
            Rows and columns of `image_tokens`. Their product is `tokens`.
        patch_embeds (`Tensor` of shape `(images, tokens, dim)`, *optional*):
            A teacher's tokens in its joint embedding space, before normalisation, on the same grid.
        token_moments (`Tensor` of shape `(batch, 2, channels)`, *optional*):
            Mean and mean square of each image's tokens, for the whole batch.
        captions ([`Captions`], *optional*):
            The captions of this process's images, as a student's text tower reads them.
        answers (`tuple[Answers, ...]`):
            Answers of each frozen reader about the teacher's `image_tokens`.
        members (`tuple[CLIPFeatures, ...]`):
            Features of each teacher of an ensemble.
    """

    image_embeds: Tensor | None = None
    text_embeds: Tensor | None = None
    logit_scale: Tensor | None = None
    logit_bias: Tensor | None = None
    masked_image_embeds: Tensor | None = None
    synthetic_text_embeds: Tensor | None = None
    image_tokens: Tensor | None = None
    image_grid: tuple[int, int] | None = None
    patch_embeds: Tensor | None = None
    token_moments: Tensor | None = None
    captions: Captions | None = None
    answers: tuple[Answers, ...] = ()
    members: tuple[CLIPFeatures, ...] = ()

    @cached_property
    def image(self) -> Tensor | None:
        """`image_embeds` with unit norm, shape `(batch, dim)`, computed once and shared by all losses."""
        return None if self.image_embeds is None else F.normalize(self.image_embeds, dim=-1)

    @cached_property
    def text(self) -> Tensor | None:
        """`text_embeds` with unit norm, shape `(batch, dim)`, computed once and shared by all losses."""
        return None if self.text_embeds is None else F.normalize(self.text_embeds, dim=-1)

    @cached_property
    def synthetic_text(self) -> Tensor | None:
        """`synthetic_text_embeds` with unit norm, shape `(batch, dim)`, computed once and shared by all losses."""
        return None if self.synthetic_text_embeds is None else F.normalize(self.synthetic_text_embeds, dim=-1)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors among the fields, by name, without those of `members`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def map(self, function: Callable[[Tensor], Tensor]) -> CLIPFeatures:
        """
        Apply `function` to each tensor, also of the members.

        If it changes nothing, the result is this object itself, with its cached unit-norm forms.
        """
        old = self.tensors()
        new = {name: function(value) for name, value in old.items()}
        members = tuple(member.map(function) for member in self.members)
        pairs = [*((new[name], old[name]) for name in old), *zip(members, self.members, strict=True)]
        return self if all(a is b for a, b in pairs) else replace(self, **new, members=members)


@dataclass(frozen=True)
class CLIPDims:
    """
    Widths from which a loss builds its heads before the first batch.

    Args:
        embed_dim (`int`): Width of the joint embedding space.
        token_dim (`int`, *optional*): Channels of the image tokens that the losses read, or `None` if no loss does.
        has_text (`bool`): `True` if the model has a text tower.
        has_bias (`bool`): `True` if the model has a `logit_bias`.
        vocab_size (`int`, *optional*): Number of ids that the student's text tower knows.
        weight (`float`): Weight of a teacher in its ensemble.
        members (`tuple[CLIPDims, ...]`): Widths of each teacher of an ensemble.
    """

    embed_dim: int
    token_dim: int | None = None
    has_text: bool = True
    has_bias: bool = False
    vocab_size: int | None = None
    weight: float = 1.0
    members: tuple[CLIPDims, ...] = ()

    @classmethod
    def of(cls, model) -> CLIPDims:
        """Read the widths of a transformers dual encoder from its config (SigLIP's are in its text tower)."""
        config = model.config
        embed_dim = config.projection_dim if hasattr(config, "projection_dim") else config.text_config.projection_size
        vocab_size = getattr(config.text_config, "vocab_size", None)
        return cls(embed_dim, has_bias=getattr(model, "logit_bias", None) is not None, vocab_size=vocab_size)


@dataclass(frozen=True)
class FeatureRequest:
    """
    Features that losses read beyond embeddings of images and texts. They are computed only if a loss asks for them.

    Args:
        layer (`int`, *optional*): Entry of the student's `hidden_states` that becomes `image_tokens`.
        teacher_layer (`int`, *optional*): Entry of the teacher's `hidden_states` that becomes `image_tokens`.
        patch_embeds (`bool`): `True` if the teacher must give `patch_embeds`.
        token_moments (`bool`): `True` if the teacher's `token_moments` are read.
        mask_ratio (`float`, *optional*): Share of the patches hidden from the student for `masked_image_embeds`.
        readers (`tuple[tuple[str, int | None], ...]`, *optional*):
            Name and number of layers of each frozen reader whose `answers` are read. Empty for readers without a name.
    """

    layer: int | None = None
    teacher_layer: int | None = None
    patch_embeds: bool = False
    token_moments: bool = False
    mask_ratio: float | None = None
    readers: tuple[tuple[str, int | None], ...] | None = None
