"""Processors of teachers: each sees images and texts as it was trained to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from ..data.collator import by_prefix
from ..data.transforms.naflex import packed
from ..data.transforms.view import image_view
from ..models.open_clip import is_open_clip
from ..models.processing import fit_processor
from .vision import VisionTower


@dataclass
class TeacherProcessor:
    """
    A teacher's own view of images and texts.

    Args:
        image_processor: Maps images to `pixel_values`, with its own size, mean, std and resize rule.
        tokenizer (*optional*):
            Maps texts to `input_ids` and, if the teacher uses one, `attention_mask`; `None` for a vision model.
        context_length (`int`, *optional*): Number of tokens that the teacher's text tower takes at most.
    """

    image_processor: Any
    tokenizer: Any = None
    context_length: int | None = None


def make_processor(model: nn.Module, processor, name: str) -> TeacherProcessor:
    """
    Adapt a processor to the model that it came with.

    Args:
        model (`nn.Module`), processor, name (`str`): From [`~hf_clip_kd.teachers.encoders.load_encoder`].

    Raises:
        ValueError: An image processor or a tokenizer is missing.
    """
    if is_open_clip(model):
        from ..models.open_clip.loading import open_clip_processor

        image_processor, tokenizer = open_clip_processor(model, processor)
        return TeacherProcessor(image_processor, tokenizer, tokenizer.context_length)
    if isinstance(model, VisionTower):
        return TeacherProcessor(processor)
    missing = [part for part in ("image_processor", "tokenizer") if getattr(processor, part, None) is None]
    if missing:
        raise ValueError(
            f"The teacher {name!r} comes without {' and '.join(missing)}. A teacher needs a processor "
            "with `image_processor` and `tokenizer`, saved beside the model or passed. Write "
            "CLIPTeacher(model, processor=AutoProcessor.from_pretrained('...'))."
        )
    processor = fit_processor(processor, model)
    image_processor, tokenizer = processor.image_processor, processor.tokenizer
    image_processor = packed(image_processor)
    if model.config.model_type in ("siglip", "siglip2"):
        tokenizer = FullLengthTokenizer(tokenizer)
    return TeacherProcessor(image_processor, tokenizer, tokenizer.model_max_length)


def view_sizes(processor: Any, teacher_processor: Any) -> dict[str, tuple[int, int]]:
    """
    Return height and width of the images of student and teachers in training, by the prefix of their inputs.

    A convnet has the same weights at each size, so a run tells sizes apart by them.

    Args:
        processor, teacher_processor: Those of a [`~hf_clip_kd.CLIPDataCollator`]; one without images is left out.
    """
    processors = {"": processor} | by_prefix(teacher_processor)
    rules = {name: getattr(found, "image_processor", None) for name, found in processors.items()}
    return {name: image_view(rule).size for name, rule in rules.items() if rule is not None}


def image_size(image_processor) -> tuple[int, int]:
    """
    Return height and width of the images that a processor of transformers makes, in pixels.

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
    Tokenizer of a SigLIP model that always fills the context, whatever padding a caller asks for.

    The text tower pools its last position and attends to the padding, so shorter input gives other features.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): Fitted by [`~hf_clip_kd.models.fit_processor`].
    """

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.context_length = self.model_max_length = tokenizer.model_max_length
        self.model_input_names = tokenizer.model_input_names

    def __call__(self, texts, padding="max_length", truncation=True, max_length=None, return_tensors="pt"):
        """
        Tokenize texts.

        Args:
            texts (`str` or `list[str]`): Captions.
            padding, truncation, max_length: Accepted and not used, since the length is always `context_length`.
            return_tensors (`str`, *optional*, defaults to `"pt"`): As in transformers.

        Returns:
            [`~transformers.BatchEncoding`] with `input_ids` of shape `(batch, context_length)`.
        """
        return self.tokenizer(
            texts,
            padding="max_length",
            truncation=True,
            max_length=self.context_length,
            return_tensors=return_tensors,
        )
