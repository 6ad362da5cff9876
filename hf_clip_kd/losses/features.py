"""Features of a dual encoder, which losses, the trainer and evaluators exchange."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace

import torch.nn.functional as F
from torch import Tensor

from .answers import Answers, Captions

# A layer behind the tower, in place of a number: the tokens of a LLaVA behind its projector.
PROJECTOR = "projector"
Layer = int | str


@dataclass
class CLIPFeatures:
    """
    Features of one batch from a student or a teacher. Features that the model does not have are `None`.

    Embeddings belong to the whole batch, that is to all processes. Tokens belong to the `images` of this process,
    because only losses that compare single images read them. If the losses read several layers, the tokens of each
    stand in `layers`. A loss takes its own by [`~CLIPFeatures.at`].

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
        class_token (`Tensor` of shape `(batch, channels)`, *optional*):
            Class token at the layer of `image_tokens`, for the whole batch.
        layers (`dict[int | str, CLIPFeatures]`):
            Tokens, grid, moments and class token of each layer by its index, if the losses read several. The fields of
            a single layer are then `None`, and `image_grid` is that of `patch_embeds`.
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
    class_token: Tensor | None = None
    layers: dict[Layer, CLIPFeatures] = field(default_factory=dict)
    captions: Captions | None = None
    answers: tuple[Answers, ...] = ()
    members: tuple[CLIPFeatures, ...] = ()

    # `torch.compile` traces a dict, and not the lock of a cached property.
    _unit_norm: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def image(self) -> Tensor | None:
        """`image_embeds` with unit norm, shape `(batch, dim)`, computed once and shared by all losses."""
        return self._with_unit_norm("image_embeds")

    @property
    def text(self) -> Tensor | None:
        """`text_embeds` with unit norm, shape `(batch, dim)`, computed once and shared by all losses."""
        return self._with_unit_norm("text_embeds")

    @property
    def synthetic_text(self) -> Tensor | None:
        """`synthetic_text_embeds` with unit norm, shape `(batch, dim)`, computed once and shared by all losses."""
        return self._with_unit_norm("synthetic_text_embeds")

    def _with_unit_norm(self, name: str) -> Tensor | None:
        if name not in self._unit_norm and getattr(self, name) is not None:
            self._unit_norm[name] = F.normalize(getattr(self, name), dim=-1)
        return self._unit_norm.get(name)

    def at(self, layer: Layer) -> CLIPFeatures:
        """
        Return features whose tokens are those of a layer. They are this object if the losses read only one layer.

        A layer that was not read has no tokens.
        """
        if not self.layers:
            return self
        found = self.layers.get(layer, CLIPFeatures())
        return replace(self, **{name: getattr(found, name) for name in OF_LAYER}, layers={})

    def with_layers(self, layers: dict[Layer, CLIPFeatures]) -> CLIPFeatures:
        """Return these features with the tokens of some layers. The fields of a single layer become their own."""
        if len(layers) != 1:
            return replace(self, layers=layers)
        (only,) = layers.values()
        return replace(self, **{name: getattr(only, name) for name in OF_LAYER}, layers={})

    def with_tokens(
        self,
        tokens: Mapping[Layer, tuple[Tensor, Tensor | None]],
        grids: Mapping[Layer, tuple[int, int]],
        request: FeatureRequest,
    ) -> CLIPFeatures:
        """
        Return these features with what a request asks of the layers of an image tower.

        Args:
            tokens (`dict[int, tuple]`): Patches and class token of each layer.
            grids (`dict[int, tuple[int, int]]`): Rows and columns of the patches of each layer.
            request ([`FeatureRequest`]): Request, which says whether the class tokens are read.
        """
        return self.with_layers(
            {
                layer: CLIPFeatures(
                    image_tokens=patches,
                    image_grid=grids[layer],
                    class_token=class_token if request.class_token else None,
                )
                for layer, (patches, class_token) in tokens.items()
            }
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by name, those of a layer as `layers.-2.image_tokens`, without those of `members`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        found = {name: value for name, value in values.items() if isinstance(value, Tensor)}
        for layer, features in self.layers.items():
            found |= {f"layers.{layer}.{name}": value for name, value in features.tensors().items()}
        return found

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> CLIPFeatures:
        """Return these features with some of [`~CLIPFeatures.tensors`] replaced, by their names there."""
        own = {name: value for name, value in tensors.items() if "." not in name}
        layers = {}
        for layer, features in self.layers.items():
            start = f"layers.{layer}."
            theirs = {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
            layers[layer] = features.with_tensors(theirs)
        return replace(self, **own, layers=layers)

    def map(self, function: Callable[[Tensor], Tensor]) -> CLIPFeatures:
        """
        Apply `function` to each tensor, also of the members.

        If it changes nothing, the result is this object itself, with its cached unit-norm forms.
        """
        old = self.tensors()
        new = {name: function(value) for name, value in old.items()}
        members = tuple(member.map(function) for member in self.members)
        pairs = [*((new[name], old[name]) for name in old), *zip(members, self.members, strict=True)]
        return self if all(a is b for a, b in pairs) else replace(self.with_tensors(new), members=members)


# Fields of CLIPFeatures that belong to a layer.
OF_LAYER = ("image_tokens", "image_grid", "token_moments", "class_token")


@dataclass(frozen=True)
class CLIPDims:
    """
    Widths from which a loss builds its heads before the first batch.

    Args:
        embed_dim (`int`): Width of the joint embedding space.
        token_dim (`int`, *optional*): Channels of the image tokens that the losses read, or `None` if no loss does.
        token_dims (`tuple[tuple[int, int], ...]`):
            Each layer and its channels, if the losses read several. `token_dim` is then `None`.
        has_text (`bool`): `True` if the model has a text tower.
        has_bias (`bool`): `True` if the model has a `logit_bias`.
        vocab_size (`int`, *optional*): Number of ids that the student's text tower knows.
        weight (`float` or `dict`): Weight of a teacher in its ensemble, as [`~losses.schedule.read_weight`] reads it.
        members (`tuple[CLIPDims, ...]`): Widths of each teacher of an ensemble.
    """

    embed_dim: int
    token_dim: int | None = None
    has_text: bool = True
    has_bias: bool = False
    weight: float | dict = 1.0
    members: tuple[CLIPDims, ...] = ()
    token_dims: tuple[tuple[Layer, int], ...] = ()
    vocab_size: int | None = None

    def at(self, layer: Layer) -> CLIPDims:
        """Return widths whose `token_dim` is that of a layer, as [`CLIPFeatures.at`] does."""
        if not self.token_dims:
            return self
        return replace(self, token_dim=dict(self.token_dims).get(layer), token_dims=())

    def with_layers(self, channels: Mapping[Layer, int]) -> CLIPDims:
        """Return these widths with the channels of the layers that are read, by the layer."""
        if len(channels) > 1:
            return replace(self, token_dim=None, token_dims=tuple(channels.items()))
        return replace(self, token_dim=next(iter(channels.values()), None), token_dims=())

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
        teacher_layer (`int` or `str`, *optional*):
            Entry of the teacher's `hidden_states` that becomes `image_tokens`. `"projector"` is what the projector of
            its LLaVA makes of the entry that this reads.
        patch_embeds (`bool`): `True` if the teacher must give `patch_embeds`.
        token_moments (`bool`): `True` if the teacher's `token_moments` are read.
        mask_ratio (`float`, *optional*): Share of the patches hidden from the student for `masked_image_embeds`.
        class_token (`bool`): `True` if both must give the class token at each of these layers.
        layers, teacher_layers (`tuple[int, ...]`):
            All entries that are read, if they are several. `layer` and `teacher_layer` are the first of them.
        readers (`tuple[tuple[str, int | None], ...]`, *optional*):
            Name and number of layers of each frozen reader whose `answers` are read. Empty for readers without a name.
    """

    layer: int | None = None
    teacher_layer: Layer | None = None
    patch_embeds: bool = False
    token_moments: bool = False
    mask_ratio: float | None = None
    class_token: bool = False
    layers: tuple[int, ...] = ()
    teacher_layers: tuple[Layer, ...] = ()
    readers: tuple[tuple[str, int | None], ...] | None = None

    @classmethod
    def of_layers(cls, student: Iterable[int], teacher: Iterable[Layer], **others) -> FeatureRequest:
        """Ask for the tokens at some layers of the student and of the teacher, and for `others` by their names."""
        named = {}
        for name, layers in (("layer", student), ("teacher_layer", teacher)):
            layers = tuple(sorted(set(layers), key=lambda layer: (isinstance(layer, str), layer)))
            named |= {name: next(iter(layers), None), f"{name}s": layers if len(layers) > 1 else ()}
        return cls(**named, **others)

    @property
    def student_reads(self) -> tuple[int, ...]:
        """All layers of the student that are read."""
        return self.layers or (() if self.layer is None else (self.layer,))

    @property
    def teacher_reads(self) -> tuple[Layer, ...]:
        """All layers of the teacher that are read."""
        return self.teacher_layers or (() if self.teacher_layer is None else (self.teacher_layer,))
