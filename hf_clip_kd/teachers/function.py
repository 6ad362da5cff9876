"""FunctionTeacher: any Python function, with declared outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..losses.features import CLIPDims, CLIPFeatures, FeatureRequest
from .base import Teacher, to_loss_features


class FunctionTeacher(Teacher):
    """
    A function as a teacher.

    Args:
        function (`Callable`):
            Takes the keyword `pixel_values` `(batch, 3, height, width)`. If `dims.has_text`, it also takes `input_ids`
            and `attention_mask` where the batch has them. Returns [`~hf_clip_kd.losses.features.CLIPFeatures`] or a
            `dict` of its fields. An `nn.Module` is frozen in place.
        processor: An object with `image_processor` and, if `dims.has_text`, `tokenizer`.
        dims ([`~hf_clip_kd.losses.features.CLIPDims`]):
            Declares its outputs: `image_embeds` of width `embed_dim`, and `text_embeds` if `has_text`. A second call
            with generated captions as `input_ids` then gives `synthetic_text_embeds`. `token_dim` declares
            `image_tokens` with `image_grid`, of the layer that the function chooses. `token_dims` declares `layers`, a
            mapping from each layer to such features. Losses that read class tokens need `class_token` beside them.
        logit_scale (`float`, *optional*): Factor on its cosine similarities; needed if `dims.has_text`.
        logit_bias (`float`, *optional*): Offset of its cosine similarities.
        dtype, device (*optional*): Arguments of [`CLIPTeacher`], for an `nn.Module`.

    Raises:
        ValueError: The processor lacks a part, or texts come without a scale. `forward` raises it if a declared output
            is missing or has another width.

    Example:

    ```python
    def features(pixel_values):
        return {"image_embeds": my_model(pixel_values)}


    teacher = FunctionTeacher(features, processor=my_processor, dims=CLIPDims(768, has_text=False))
    ```
    """

    def __init__(
        self,
        function: Callable[..., CLIPFeatures | Mapping[str, Any]],
        *,
        processor,
        dims: CLIPDims,
        logit_scale: float | None = None,
        logit_bias: float | None = None,
        dtype: torch.dtype | None = None,
        device: str | torch.device | None = None,
    ):
        super().__init__(dtype, device)
        needed = ["image_processor", "tokenizer"] if dims.has_text else ["image_processor"]
        if missing := [part for part in needed if getattr(processor, part, None) is None]:
            raise ValueError(
                f"The teacher {_name(function)} was given the processor {type(processor).__name__} without "
                f"{' and '.join(missing)}. With {dims} it needs {' and '.join(needed)}. Pass TeacherProcessor("
                "image_processor, tokenizer, context_length), or declare dims=CLIPDims(..., has_text=False)."
            )
        if dims.has_text and logit_scale is None:
            raise ValueError(
                f"The teacher {_name(function)} compares images with texts and has logit_scale=None. Losses such as "
                "'crd' read the factor on its cosine similarities, a number above 0. Pass logit_scale=100.0 if it is "
                "a trained CLIP, or declare dims=CLIPDims(..., has_text=False)."
            )
        if isinstance(function, nn.Module):
            function = function.requires_grad_(False).eval().to(dtype=dtype)
        self.function, self.processor, self.dims = function, processor, dims
        self.name_or_path = _name(function)
        scale = None if logit_scale is None else torch.tensor(math.log(logit_scale))
        self.register_buffer("logit_scale", scale, persistent=False)
        self.register_buffer("logit_bias", None if logit_bias is None else torch.tensor(logit_bias), persistent=False)
        if device is not None:
            self.to(device)

    def prepare(self, request: FeatureRequest) -> None:
        """
        Check that the features that losses ask for are declared.

        Raises:
            ValueError: They read tokens or layers that `dims` does not declare, or embeddings of patches.
        """
        if request.patch_embeds and self.dims.has_text:
            raise ValueError(
                f"The teacher {self.name_or_path} is a function, of which embeddings of patches cannot be had. "
                "Allowed are losses that read embeddings or tokens. Leave 'patch_text' out of `losses`."
            )
        declared, read = [layer for layer, _ in self.dims.token_dims], request.teacher_reads
        if read and not declared and self.dims.token_dim is None:
            raise ValueError(
                f"The losses read image tokens, and the teacher {self.name_or_path} declares none. It must return "
                "`image_tokens` and `image_grid`. Declare their width: dims=CLIPDims(..., token_dim=...)."
            )
        if not set(read) <= set(declared) and (declared or len(read) > 1):
            raise ValueError(
                f"The losses read the layers {list(read)}, and the teacher {self.name_or_path} declares {declared}. "
                "It must return `layers`, a mapping from each to its `image_tokens` and `image_grid`. Declare their "
                "widths: dims=CLIPDims(..., token_dims=((LAYER, WIDTH), ...))."
            )
        super().prepare(request)

    @torch.no_grad()
    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        synthetic_input_ids: Tensor | None = None,
        synthetic_attention_mask: Tensor | None = None,
    ) -> CLIPFeatures:
        """Call the function on a batch; arguments and result are those of [`CLIPTeacher.forward`]."""
        images = pixel_values if self.own_device is None else pixel_values.to(self.own_device)
        features = self._call(images, input_ids, attention_mask)
        if synthetic_input_ids is not None and self.dims.has_text:
            again = self._call(images, synthetic_input_ids, synthetic_attention_mask)
            features.synthetic_text_embeds = again.text_embeds
        features.logit_scale = None if self.logit_scale is None else self.logit_scale.exp()
        features.logit_bias = self.logit_bias
        return to_loss_features(features, self.request, pixel_values.device)

    def _call(self, pixel_values: Tensor, input_ids: Tensor | None, attention_mask: Tensor | None) -> CLIPFeatures:
        texts = {"input_ids": input_ids, "attention_mask": attention_mask} if self.dims.has_text else {}
        texts = {name: value.to(pixel_values.device) for name, value in texts.items() if value is not None}
        with self.precision(pixel_values.device):
            output = self.function(pixel_values=pixel_values, **texts)
        features = as_features(output)
        read = self.request.teacher_reads if self.dims.token_dims else ()
        features.layers = {layer: as_features(features.layers.get(layer, {})) for layer in read}
        for name, value, width in self._declared(features, bool(texts)):
            if value is None or value.shape[-1] != width:
                found = "is missing" if value is None else f"has the shape {tuple(value.shape)}"
                raise ValueError(
                    f"`{name}` {found} in what the teacher {self.name_or_path} returned. Declared is a width of "
                    f"{width} ({self.dims}). Return it, or declare what the function gives: dims=CLIPDims(...)."
                )
        return features.with_layers(features.layers)

    def _declared(self, features: CLIPFeatures, has_text: bool) -> Iterator[tuple[str, Tensor | None, int]]:
        """Yield name, value and width of each feature that must be there."""
        yield "image_embeds", features.image_embeds, self.dims.embed_dim
        if has_text:
            yield "text_embeds", features.text_embeds, self.dims.embed_dim
        layers = {f"layers[{layer}].": (found, self.dims.at(layer)) for layer, found in features.layers.items()}
        for start, (found, dims) in (layers or {"": (features, self.dims)}).items():
            if dims.token_dim is not None:
                yield f"{start}image_tokens", found.image_tokens, dims.token_dim
                if self.request.class_token:
                    yield f"{start}class_token", found.class_token, dims.token_dim


def as_features(output: CLIPFeatures | Mapping[str, Any]) -> CLIPFeatures:
    """Return a copy of what a function returned, as features."""
    return replace(output) if isinstance(output, CLIPFeatures) else CLIPFeatures(**output)


def _name(function: Callable) -> str:
    return getattr(function, "__name__", type(function).__name__)


__all__ = ["FunctionTeacher"]
