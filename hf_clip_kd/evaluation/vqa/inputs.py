"""Inputs of a vision-language model for questions: the chat template's prompt, padded, and the pictures."""

from __future__ import annotations

from collections.abc import Sequence

import PIL.Image
from transformers import BatchFeature

from ...data.reading.images import BrokenImageError, decode_image, image_path
from ...data.texts import half_character
from .files import Sample


def check_prompts(processor, samples: Sequence[Sample]) -> None:
    """
    Refuse questions that no chat template can ask.

    Raises:
        ValueError: if a prompt holds the image token or half a character.
    """
    image_token = getattr(processor, "image_token", None)
    for sample in samples:
        if image_token and image_token in sample.prompt:
            raise ValueError(
                f"The prompt of question {sample.question_id!r} holds the image token {image_token!r}. The place of "
                "the image is in front of the prompt, and the chat template writes it. Delete it from the prompt: "
                f"`prompt.replace({image_token!r}, '')`."
            )
        if fault := half_character(sample.prompt):
            raise ValueError(
                f"The prompt of question {sample.question_id!r} {fault}. A text must be written in whole characters. "
                "Repair the file of questions."
            )


def model_inputs(processor, samples: Sequence[Sample]) -> BatchFeature:
    """
    Make the inputs that let a model answer the samples, up to the place where its answer begins.

    Generation and likelihood both start here, so they see the same prompt.

    Args:
        processor ([`~transformers.ProcessorMixin`]):
            Processor with a chat template. The message is the image, if there is one, and then the prompt.
        samples (sequence of [`Sample`]):
            Questions, with and without an image.

    Returns:
        [`~transformers.BatchFeature`]: `input_ids` and `attention_mask` of shape `(batch, length)`, padded on the
        left, and `pixel_values` if there is an image.

    Raises:
        ValueError: if an image cannot be read.
    """
    return processor.apply_chat_template(
        [_conversation(sample) for sample in samples],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True, "padding_side": "left"},
    )


def by_length(samples: Sequence[Sample]) -> list[int]:
    """
    Order the samples for batches: neighbours of about equal length need little padding.

    The longest come first, so that a batch too large for the memory fails at once.
    """
    return sorted(
        range(len(samples)), key=lambda i: (samples[i].image is not None, len(samples[i].prompt)), reverse=True
    )


def _conversation(sample: Sample) -> list[dict]:
    content = [{"type": "text", "text": sample.prompt}]
    if sample.image is not None:
        content.insert(0, {"type": "image", "image": question_picture(sample)})
    return [{"role": "user", "content": content}]


def question_picture(sample: Sample) -> PIL.Image.Image:
    """
    Decode the image of a question as the model is shown it: RGB, on white where it is transparent.

    Raises:
        ValueError: if it cannot be read.
    """
    try:
        return decode_image(sample.image)
    except BrokenImageError as error:
        raise ValueError(
            f"The image {image_path(sample.image) or '(no file name)'} of question {sample.question_id!r} cannot be "
            f"read ({error}). Every question needs its image, or the score would be that of another benchmark. Fetch "
            "the file again."
        ) from error
