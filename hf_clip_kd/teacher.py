"""CLIPTeacher: any dual encoder, frozen, with its own view of images and text."""

from __future__ import annotations

import copy
import os
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from . import models
from .features import CLIPDims, CLIPFeatures, FeatureRequest, pooled
from .models.loading import list_models, load_clip
from .teacher_processor import FullLengthTokenizer, NaflexImageProcessor, TeacherProcessor

OPEN_CLIP_PREFIX = "open_clip:"
_FORMS = (
    "A teacher is a folder or Hub id of a transformers dual encoder (CLIP, SigLIP, SigLIP 2, ...), "
    "'open_clip:ARCH/TAG', 'open_clip:ARCH//path/to/checkpoint.pt', or a model together with `processor`"
)


class CLIPTeacher(nn.Module):
    """
    A frozen dual encoder to learn from: always in eval mode, without gradients, with its own preprocessing.

    Args:
        name_or_path_or_model (`str`, `os.PathLike` or `nn.Module`):
            Folder or Hub id of a transformers dual encoder (CLIP, SigLIP, SigLIP 2 and others with
            `get_image_features` and `get_text_features`); `open_clip:ARCH/TAG`; `open_clip:ARCH//path/to/checkpoint`;
            or a ready model of transformers or open_clip, which is frozen in place.
        processor (*optional*):
            With a ready transformers model its processor, required. With open_clip the tokenizer, if it is not the
            one of the architecture. With a folder or Hub id it replaces the one found there.
        dtype (`torch.dtype`, *optional*, defaults to `torch.float32` for what is loaded here):
            Type of the weights. Features come out in float32 or better whatever it is.
        device (`str` or `torch.device`, *optional*): Where to put the model.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether model code from the Hub may run.

    Attributes:
        model (`nn.Module`): The frozen model.
        processor ([`TeacherProcessor`]): Its image processor, tokenizer and context length.
        dims ([`~hf_clip_kd.features.CLIPDims`]): Its widths.
        logit_scale (0-dim `Tensor`, *optional*): Log of its scale, as in [`~transformers.CLIPModel`].
        logit_bias (0-dim `Tensor`, *optional*): Its bias.

    Raises:
        `ValueError`: nothing there under that name, no dual encoder, or no processor.

    Example:

    ```python
    teacher = CLIPTeacher("openai/clip-vit-base-patch16")
    pixels = teacher.processor.image_processor(images, return_tensors="pt")["pixel_values"]
    ids = teacher.processor.tokenizer(captions, padding=True, truncation=True, return_tensors="pt")
    features = teacher(pixels, **ids)
    ```
    """

    def __init__(
        self,
        name_or_path_or_model: str | os.PathLike | nn.Module,
        *,
        processor=None,
        dtype: torch.dtype | None = None,
        device: str | torch.device | None = None,
        trust_remote_code: bool = False,
    ):
        super().__init__()
        model, processor, self.name_or_path = _load(name_or_path_or_model, processor, trust_remote_code)
        self._is_open_clip = hasattr(model, "encode_image")
        if not self._is_open_clip and not (
            hasattr(model, "get_image_features") and hasattr(model, "get_text_features")
        ):
            raise ValueError(
                f"The teacher {self.name_or_path!r} is a {type(model).__name__}, which has no image and text tower in "
                f"one embedding space. {_FORMS}. Vision-only models cannot embed captions: pick the dual encoder they "
                "come from, for example CLIPTeacher('openai/clip-vit-base-patch16')."
            )
        self.processor = self._make_processor(model, processor)
        # Kept apart from the model, since half precision would round the scale.
        for name in ("logit_scale", "logit_bias"):
            value = getattr(model, name, None)
            value = None if value is None else value.detach().clone().float().reshape(())
            self.register_buffer(name, value, persistent=False)
        self.model = model.requires_grad_(False).eval().to(dtype=dtype)
        if device is not None:
            self.to(device)
        self.dims = CLIPDims(self._embed_dim(), has_bias=self.logit_bias is not None)
        self.request, self.image_grid = FeatureRequest(), None

    def prepare(self, request: FeatureRequest) -> None:
        """
        Also give what losses ask for beyond the embeddings, and measure its width for `dims`.

        Args:
            request ([`~hf_clip_kd.features.FeatureRequest`]): From [`~hf_clip_kd.losses.requested`].

        Raises:
            ValueError: If this model cannot give it.
        """
        layer, channels, grid = request.teacher_layer, None, None
        try:
            if layer is not None:
                channels, grid = self._towers.token_shape(self.model, layer)
            if request.patch_embeds:
                self._towers.check_patch_embeds(self.model)
                _, last_grid = self._towers.token_shape(self.model, -1)
                if grid not in (None, last_grid):
                    raise ValueError(
                        f"its tokens at teacher_layer={layer} lie on the grid {grid}, its patch embeddings on {last_grid}; "
                        "one run reads one grid; give every loss teacher_layer=-1."
                    )
                grid = last_grid
        except ValueError as error:
            raise ValueError(
                f"The teacher {self.name_or_path!r} cannot give the patches that the losses read: {error} Or "
                "leave out the losses that read patches ('patch', 'patch_text', 'relation' of tokens)."
            ) from error
        self.request, self.image_grid = request, grid
        self.dims = replace(self.dims, token_dim=channels)

    def train(self, mode: bool = True) -> CLIPTeacher:
        """Does nothing: a teacher stays in eval mode whatever the trainer does."""
        return self

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the model's weights."""
        return next(self.model.parameters()).dtype

    @torch.no_grad()
    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        """
        Embed images.

        Args:
            pixel_values (`Tensor` of shape `(batch, 3, height, width)`): From `processor.image_processor`.

        Returns:
            `Tensor` of shape `(batch, embed_dim)`, not normalised.
        """
        if self._is_open_clip:
            return _full(self.model.encode_image(pixel_values.to(self.device, self.dtype), normalize=False))
        pixel_values = pixel_values.to(self.device)
        inputs = {"pixel_values": pixel_values}
        if isinstance(self.processor.image_processor, NaflexImageProcessor):
            inputs = NaflexImageProcessor.unpack(pixel_values)
        inputs["pixel_values"] = inputs["pixel_values"].to(self.dtype)
        return _full(pooled(self.model.get_image_features(**inputs)))

    @torch.no_grad()
    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """
        Embed texts.

        Args:
            input_ids (`Tensor` of shape `(batch, length)`): From `processor.tokenizer`.
            attention_mask (`Tensor` of shape `(batch, length)`, *optional*):
                1 on tokens, 0 on padding; not used by models that were trained without one (SigLIP, open_clip).

        Returns:
            `Tensor` of shape `(batch, embed_dim)`, not normalised.
        """
        input_ids = input_ids.to(self.device)
        if self._is_open_clip:
            return _full(self.model.encode_text(input_ids, normalize=False))
        if isinstance(self.processor.tokenizer, FullLengthTokenizer):
            attention_mask = None
        elif attention_mask is not None:
            attention_mask = attention_mask.to(self.device)
        return _full(pooled(self.model.get_text_features(input_ids=input_ids, attention_mask=attention_mask)))

    def forward(
        self,
        pixel_values: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        synthetic_input_ids: Tensor | None = None,
        synthetic_attention_mask: Tensor | None = None,
    ) -> CLIPFeatures:
        """
        Embed a batch; arguments as in [`CLIPTeacher.get_image_features`] and [`CLIPTeacher.get_text_features`].

        Args:
            synthetic_input_ids, synthetic_attention_mask (*optional*): Generated captions of the images, likewise.

        Returns:
            [`~hf_clip_kd.features.CLIPFeatures`] without gradients, with what [`CLIPTeacher.prepare`] was asked for;
            what was not given is `None`.
        """
        features = CLIPFeatures() if pixel_values is None else self._image_features(pixel_values)
        if input_ids is not None:
            features.text_embeds = self.get_text_features(input_ids, attention_mask)
        if synthetic_input_ids is not None:
            features.synthetic_text_embeds = self.get_text_features(synthetic_input_ids, synthetic_attention_mask)
        features.logit_scale = None if self.logit_scale is None else self.logit_scale.exp()
        features.logit_bias = self.logit_bias
        return features

    @torch.no_grad()
    def _image_features(self, pixel_values: Tensor) -> CLIPFeatures:
        """All that is read of images, from one forward pass."""
        request = self.request
        if request.teacher_layer is None and not request.patch_embeds:
            return CLIPFeatures(image_embeds=self.get_image_features(pixel_values))
        embeds, tokens, patches = self._towers.encode_patches(
            self.model, pixel_values.to(self.device, self.dtype), request.teacher_layer, request.patch_embeds
        )
        features = CLIPFeatures(
            image_embeds=embeds, image_tokens=tokens, patch_embeds=patches, image_grid=self.image_grid
        ).map(_full)
        if request.token_moments:
            tokens = features.image_tokens
            features.token_moments = torch.stack([tokens.mean(dim=1), tokens.square().mean(dim=1)], dim=1)
        return features

    @property
    def _towers(self):
        """The module whose functions read tokens of this kind of model."""
        if not self._is_open_clip:
            return models
        from . import open_clip_tokens

        return open_clip_tokens

    def _make_processor(self, model: nn.Module, processor) -> TeacherProcessor:
        if self._is_open_clip:
            from .open_clip_teacher import open_clip_processor

            image_processor, tokenizer = open_clip_processor(model, processor)
            return TeacherProcessor(image_processor, tokenizer, tokenizer.context_length)
        missing = [part for part in ("image_processor", "tokenizer") if getattr(processor, part, None) is None]
        if missing:
            raise ValueError(
                f"The teacher {self.name_or_path!r} comes without {' and '.join(missing)}. A teacher needs a processor "
                "with `image_processor` and `tokenizer`, saved beside the model or passed. Write "
                "CLIPTeacher(model, processor=AutoProcessor.from_pretrained('...'))."
            )
        image_processor, tokenizer = processor.image_processor, processor.tokenizer
        length = model.config.text_config.max_position_embeddings
        if model.config.model_type == "siglip2":
            image_processor = NaflexImageProcessor(image_processor)
        if model.config.model_type in ("siglip", "siglip2"):
            tokenizer = FullLengthTokenizer(tokenizer, length)
        elif tokenizer.model_max_length > length:
            # So that `truncation=True` alone never gives more tokens than there are positions.
            tokenizer = copy.deepcopy(tokenizer)
            tokenizer.model_max_length = length
        # Some text towers (RoBERTa) have positions that no token takes; their tokenizer knows.
        length = min(length, tokenizer.model_max_length)
        return TeacherProcessor(image_processor, tokenizer, length)

    def _embed_dim(self) -> int:
        if self._is_open_clip:
            # open_clip keeps the width in another place in each kind of text tower; one forward pass knows it.
            ids = torch.zeros(1, self.processor.context_length, dtype=torch.long)
            return self.get_text_features(ids).shape[-1]
        config = self.model.config
        return config.projection_dim if hasattr(config, "projection_dim") else config.text_config.projection_size


def _load(source, processor, trust_remote_code: bool) -> tuple[nn.Module, Any, str]:
    """The model, its processor (for open_clip the tokenizer or `None`) and its name."""
    if isinstance(source, nn.Module):
        return source, processor, type(source).__name__
    name = os.fspath(source)
    if name.startswith(OPEN_CLIP_PREFIX):
        from .open_clip_teacher import load_open_clip

        model, tokenizer = load_open_clip(name, tokenizer=processor)
        return model, tokenizer, name
    if name in list_models() or name.endswith(".json"):
        raise ValueError(
            f"The teacher {name!r} is a preset, which has random weights and nothing to teach. {_FORMS}. Train it first "
            "and give its folder; or, to distil from noise on purpose, pass the model: "
            f"`model, processor = load_clip({name!r})`, then CLIPTeacher(model, processor=processor)."
        )
    model, found = load_clip(name, trust_remote_code=trust_remote_code)
    return model.float(), processor or found, name


def _full(features: Tensor) -> Tensor:
    """Half-precision features in float32: losses compute in float32 or better."""
    return features.float() if features.dtype in (torch.float16, torch.bfloat16) else features
