"""How a teacher sees images and text: the processors of [`~hf_clip_kd.teachers.clip.CLIPTeacher`]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import BatchEncoding, BatchFeature


@dataclass
class TeacherProcessor:
    """
    How the teacher sees the world.

    Args:
        image_processor: Called with images, gives `pixel_values`: its own size, mean, std and resize rule.
        tokenizer (*optional*):
            Called with texts, gives `input_ids` and, if the teacher uses one, `attention_mask`; `None` for a vision model.
        context_length (`int`, *optional*): The most tokens the teacher's text tower takes.
    """

    image_processor: Any
    tokenizer: Any = None
    context_length: int | None = None


def image_size(image_processor) -> tuple[int, int]:
    """
    Height and width of the images that a processor of transformers makes.

    Raises:
        ValueError: They differ from image to image.
    """
    size = image_processor.crop_size if getattr(image_processor, "do_center_crop", None) else image_processor.size
    height, width = size.get("height"), size.get("width")
    if not (height and width):
        raise ValueError(
            f"The image processor {type(image_processor).__name__} of a vision teacher makes images of no fixed size "
            f"(size={size}). Allowed is one with height and width. Pass it: CLIPTeacher(..., processor="
            "AutoImageProcessor.from_pretrained('...', size={'height': 224, 'width': 224}))."
        )
    return height, width


class FullLengthTokenizer:
    """
    Tokenizer of a SigLIP model, called as these models were trained: lower case, always `context_length` tokens, no mask.

    The text tower pools its last position and attends to the padding, so shorter or masked input gives other features.
    The Gemma tokenizer in the fixed-resolution SigLIP 2 repositories does not lower-case by itself.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): The tokenizer of the checkpoint.
        context_length (`int`): Positions of the text tower, 64 in the published models.
    """

    def __init__(self, tokenizer, context_length: int):
        self.tokenizer = tokenizer
        self.context_length = self.model_max_length = context_length

    def __call__(self, texts, padding="max_length", truncation=True, max_length=None, return_tensors="pt"):
        """
        Args:
            texts (`str` or `list[str]`): Captions.
            padding, truncation, max_length: Accepted and not used: the length is always `context_length`.
            return_tensors (`str`, *optional*, defaults to `"pt"`): As in transformers.

        Returns:
            [`~transformers.BatchEncoding`] with `input_ids` of shape `(batch, context_length)`.
        """
        texts = texts.lower() if isinstance(texts, str) else [text.lower() for text in texts]
        length = self.context_length
        batch = self.tokenizer(
            texts, padding="max_length", truncation=True, max_length=length, return_tensors=return_tensors
        )
        return BatchEncoding({"input_ids": batch["input_ids"]})


class NaflexImageProcessor:
    """
    Image processor of a native-aspect-ratio SigLIP 2 whose three outputs travel as one `pixel_values`.

    Shape `(batch, max_num_patches, channels * patch_size**2 + 2)`; the last two channels are rows and columns of the
    image's own grid, and zero on padding patches. [`CLIPTeacher`] takes them apart again.

    Args:
        image_processor ([`~transformers.Siglip2ImageProcessor`]): The processor of the checkpoint.
    """

    model_input_names = ("pixel_values",)

    def __init__(self, image_processor):
        self.image_processor = image_processor

    def __call__(self, images, return_tensors="pt", **kwargs):
        batch = self.image_processor(images, return_tensors="pt", **kwargs)
        grid = batch["spatial_shapes"][:, None] * batch["pixel_attention_mask"][..., None]
        return BatchFeature({"pixel_values": torch.cat([batch["pixel_values"], grid], dim=-1)})

    def to_dict(self) -> dict[str, Any]:
        """Settings of the processor, as in transformers."""
        return {**self.image_processor.to_dict(), "image_processor_type": type(self).__name__}

    @staticmethod
    def unpack(pixel_values: Tensor) -> dict[str, Tensor]:
        """What [`~transformers.Siglip2Model.get_image_features`] takes, out of packed `pixel_values`."""
        patches, grid = pixel_values.split([pixel_values.shape[-1] - 2, 2], dim=-1)
        return {
            "pixel_values": patches,
            "pixel_attention_mask": (grid[..., 0] > 0).long(),
            "spatial_shapes": grid[:, 0].long(),
        }
