"""CLIPTeacher: any dual encoder or vision model, frozen, with its own view of images and text."""

from __future__ import annotations

import os
from dataclasses import replace

import torch
from torch import Tensor, nn

from .. import models
from ..losses.features import PROJECTOR, CLIPDims, CLIPFeatures, FeatureRequest, Layer
from ..models.naflex import read_packed
from ..models.open_clip import is_open_clip
from ..models.precision import upcast
from ..models.pretrained_tower import is_dual_encoder
from ..models.processing import text_mask
from ..models.resolution import resize_images
from ..models.towers.tokens import pooled
from .base import Teacher, to_loss_features
from .encoders import load_encoder, log_scale, scalar
from .processors import FullLengthTokenizer, make_processor
from .vision import VisionTower, check_tokens


class CLIPTeacher(Teacher):
    """
    A frozen dual encoder or vision model: always in eval mode, without gradients, with its own preprocessing.

    Args:
        name_or_path_or_model (`str`, `os.PathLike` or `nn.Module`):
            - Folder or Hub id of a transformers dual encoder: CLIP, SigLIP, SigLIP 2, MetaCLIP 2, AltCLIP, ALIGN and
              others with `get_image_features` and `get_text_features`.
            - `open_clip:ARCH/TAG`, `open_clip:ARCH//path/to/checkpoint`, `open_clip:hf-hub:OWNER/NAME` or
              `open_clip:local-dir:FOLDER`.
            - Folder or Hub id of a vision model (DINOv2, DINOv3, ViT, ...), `timm:NAME` or
              `timm:NAME//path/to/checkpoint.safetensors`, for losses that read no text.
            - Folder or Hub id of a LLaVA or another vision-language model, whose tower is such a vision model.
            - A ready model of transformers or open_clip, which is frozen in place.
        processor (*optional*):
            A ready model of transformers needs its processor (a vision model its image processor). A model of
            open_clip takes a tokenizer, if it is not the one of the architecture. A folder or Hub id takes one in
            place of its own.
        dtype (`torch.dtype`, *optional*):
            Type of the weights and of all computation, whatever the student's. The default is float32 weights that
            compute under the trainer's autocast. Features come out in float32 or better in any case.
        device (`str` or `torch.device`, *optional*): Device of the model; by default the one that the trainer chooses.
        compile (`bool`, *optional*, defaults to `False`): Run it through `torch.compile`.
        image_size (`int`, *optional*):
            Side of its images in pixels, if it differs from the side that it was made for, see
            [`~hf_clip_kd.models.resolution.resize_images`]. A vision model takes an image processor of that size.
        logit_scale (`float`, *optional*):
            Factor on its cosine similarities (inverse temperature) that losses read, instead of its own.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Allow model code from the Hub to run.

    Attributes:
        model (`nn.Module`): The frozen model.
        processor ([`TeacherProcessor`]): Its image processor, tokenizer and context length.
        dims ([`~hf_clip_kd.losses.features.CLIPDims`]): Its widths, and `has_text`.
        logit_scale (0-dim `Tensor`, *optional*): Log of its scale, as in [`~transformers.CLIPModel`].
        logit_bias (0-dim `Tensor`, *optional*): Its bias.

    Raises:
        ValueError: There is nothing of that name, no such model, or no processor.

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
        compile: bool = False,
        image_size: int | None = None,
        logit_scale: float | None = None,
        trust_remote_code: bool = False,
    ):
        super().__init__(dtype, device)
        model, processor, self.name_or_path = load_encoder(name_or_path_or_model, processor, trust_remote_code)
        self._is_open_clip = is_open_clip(model)
        if image_size is not None:
            if not is_dual_encoder(type(model)):
                raise ValueError(
                    f"image_size={image_size} with the teacher {self.name_or_path!r}, a {type(model).__name__}. It is "
                    "for dual encoders of transformers and timm. A vision model takes `processor=AutoImageProcessor"
                    ".from_pretrained(..., size=...)`; `import_checkpoint.py` makes a CLIP out of one of open_clip."
                )
            model, processor = resize_images(model, processor, image_size)
        self.processor = make_processor(model, processor, self.name_or_path)
        # Half precision would round the scale, so it is kept apart from the model.
        self.register_buffer("logit_scale", log_scale(model, logit_scale), persistent=False)
        self.register_buffer("logit_bias", scalar(model, "logit_bias"), persistent=False)
        self.model = read_packed(model).requires_grad_(False).eval().to(dtype=dtype)
        if device is not None:
            self.to(device)
        self.image_grid, self.grids = None, {}
        self.dims = self._dims()
        if compile:
            self.compile()

    def prepare(self, request: FeatureRequest) -> None:
        """
        Promise features beyond the embeddings, and measure their width for `dims`.

        Args:
            request ([`~hf_clip_kd.losses.features.FeatureRequest`]):
                From [`~hf_clip_kd.losses.requested`]. A vision model leaves out `patch_embeds`, which only losses with
                text read.

        Raises:
            ValueError: This model cannot give them.
        """
        request = request if self.dims.has_text else replace(request, patch_embeds=False)
        layers = request.teacher_reads
        try:
            if layers and isinstance(self.model, VisionTower):
                check_tokens(self.model)
            shapes = {layer: self._token_shape(layer) for layer in layers}
            if request.class_token:
                self._towers.check_class_token(self.model)
            grids = {layer: grid for layer, (_, grid) in shapes.items()}
            grid = next(iter(grids.values())) if len(grids) == 1 else None
            if request.patch_embeds:
                self._towers.check_patch_embeds(self.model)
                _, last_grid = self._towers.token_shape(self.model, -1)
                if grid not in (None, last_grid):
                    raise ValueError(
                        f"its tokens at teacher_layer={layers[0]} lie on the grid {grid}, its patch embeddings on "
                        f"{last_grid}. One run reads one grid. Give every loss teacher_layer=-1."
                    )
                grid = last_grid
        except ValueError as error:
            raise ValueError(
                f"The teacher {self.name_or_path!r} cannot give the patches that the losses read: {error} Or "
                "leave out the losses that read patches ('patch', 'patch_text', 'relation' of tokens)."
            ) from error
        self.request, self.image_grid, self.grids = request, grid, grids
        self.dims = self.dims.with_layers({layer: channels for layer, (channels, _) in shapes.items()})

    @property
    def device(self) -> torch.device:
        """Device of the model."""
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
            return upcast(self.model.encode_image(pixel_values.to(self.device, self.dtype), normalize=False))
        return upcast(pooled(self.model.get_image_features(pixel_values=pixel_values.to(self.device, self.dtype))))

    @torch.no_grad()
    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """
        Embed texts.

        Args:
            input_ids (`Tensor` of shape `(batch, length)`): From `processor.tokenizer`.
            attention_mask (`Tensor` of shape `(batch, length)`, *optional*):
                1 on tokens, 0 on padding. Models that were trained without one (SigLIP, open_clip) do not use it.

        Returns:
            `Tensor` of shape `(batch, embed_dim)`, not normalised.

        Raises:
            ValueError: This is a vision model.
        """
        if isinstance(self.model, VisionTower):
            raise ValueError(
                f"{self.name_or_path!r} is a vision model, which embeds no texts. Zero-shot classification, retrieval "
                "and losses with texts need a dual encoder. Give one, for example 'openai/clip-vit-base-patch16'."
            )
        input_ids = input_ids.to(self.device)
        if self._is_open_clip:
            return upcast(self.model.encode_text(input_ids, normalize=False))
        if isinstance(self.processor.tokenizer, FullLengthTokenizer):
            attention_mask = None
        elif attention_mask is not None:
            attention_mask = text_mask(self.model, attention_mask.to(self.device))
        return upcast(pooled(self.model.get_text_features(input_ids=input_ids, attention_mask=attention_mask)))

    # Not `inference_mode`: a loss multiplies the student by these features. Autograd cannot keep such tensors for the
    # backward pass.
    @torch.no_grad()
    def forward(
        self,
        pixel_values: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        synthetic_input_ids: Tensor | None = None,
        synthetic_attention_mask: Tensor | None = None,
    ) -> CLIPFeatures:
        """
        Embed a batch.

        Args:
            pixel_values (`Tensor` of shape `(batch, 3, height, width)`, *optional*): From `processor.image_processor`.
            input_ids, attention_mask (`Tensor` of shape `(batch, length)`, *optional*): From `processor.tokenizer`.
            synthetic_input_ids, synthetic_attention_mask (`Tensor` of shape `(batch, length)`, *optional*):
                Generated captions of the images, from `processor.tokenizer`.

        Returns:
            [`~hf_clip_kd.losses.features.CLIPFeatures`] without gradients, on the device of the images. It also has
            the features that [`CLIPTeacher.prepare`] promised. A feature without an input is `None`, and so are texts
            for a vision model.
        """
        given = next((x for x in (pixel_values, input_ids, synthetic_input_ids) if x is not None), None)
        with self.precision(self.device):
            features = CLIPFeatures() if pixel_values is None else self._image_features(pixel_values)
            if self.dims.has_text and input_ids is not None:
                features.text_embeds = self.get_text_features(input_ids, attention_mask)
            if self.dims.has_text and synthetic_input_ids is not None:
                features.synthetic_text_embeds = self.get_text_features(synthetic_input_ids, synthetic_attention_mask)
        features.logit_scale = None if self.logit_scale is None else self.logit_scale.exp()
        features.logit_bias = self.logit_bias
        return to_loss_features(features, self.request, self.device if given is None else given.device)

    def _image_features(self, pixel_values: Tensor) -> CLIPFeatures:
        """Read all features of images from one forward pass."""
        request = self.request
        if not request.teacher_reads and not request.patch_embeds:
            return CLIPFeatures(image_embeds=self.get_image_features(pixel_values))
        own = dict.fromkeys(self.model.layer if layer == PROJECTOR else layer for layer in request.teacher_reads)
        embeds, tokens, patches = self._towers.encode_layers(
            self.model, pixel_values.to(self.device, self.dtype), tuple(own), request.patch_embeds
        )
        if PROJECTOR in request.teacher_reads:
            tokens[PROJECTOR] = self.model.projector(tokens[self.model.layer].patches), None
            tokens = {layer: tokens[layer] for layer in request.teacher_reads}
        features = CLIPFeatures(image_embeds=embeds, patch_embeds=patches, image_grid=self.image_grid)
        return features.with_tokens(tokens, self.grids, request)

    def _token_shape(self, layer: Layer) -> tuple[int, tuple[int, int]]:
        """Return channels and grid of the tokens of a layer."""
        if layer != PROJECTOR:
            return self._towers.token_shape(self.model, layer)
        if getattr(self.model, "projector", None) is None:
            raise ValueError(
                f"it has no projector, which teacher_layer={PROJECTOR!r} reads. A LLaVA has one, if it reads one "
                "layer of its tower. Take the tokens from it: teacher_model_name_or_path={'name': "
                f"{self.name_or_path!r}, 'tokens_from': LLAVA}}."
            )
        width, grid = self._towers.token_shape(self.model, self.model.layer)
        token = torch.zeros(1, 1, width, device=self.device, dtype=self.dtype)
        with torch.no_grad():
            return self.model.projector(token).shape[-1], grid

    @property
    def _towers(self):
        """Module whose functions read tokens of this kind of model."""
        if not self._is_open_clip:
            return models
        from ..models.open_clip import tokens as open_clip_tokens

        return open_clip_tokens

    def _dims(self) -> CLIPDims:
        # Libraries keep the width in another place for each kind of model. One forward pass knows it.
        has_text = not isinstance(self.model, VisionTower)
        if has_text:
            ids = torch.zeros(1, self.processor.context_length, dtype=torch.long)
            embeds = self.get_text_features(ids, attention_mask=torch.ones_like(ids))
        else:
            config = self.model.config.vision_config
            embeds = self.get_image_features(torch.zeros(1, config.num_channels, config.image_size, config.image_size))
        if embeds.ndim != 2:
            raise ValueError(
                f"The teacher {self.name_or_path!r} gives features of the shape {tuple(embeds.shape)} for one text. "
                "Allowed is one embedding, (1, dim). Pick from its features in a function of your own: "
                "FunctionTeacher(function, processor=..., dims=CLIPDims(...))."
            )
        return CLIPDims(embeds.shape[-1], has_text=has_text, has_bias=self.logit_bias is not None)
