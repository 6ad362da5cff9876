"""Image sizes that are drawn for each step, for student and teacher apart."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.nn.functional import interpolate
from transformers import PreTrainedModel

from ..models.resolution import take_sizes
from ..teachers.base import PREFIX, Teacher
from ..teachers.clip import CLIPTeacher
from .training_args import DistillationTrainingArguments

logger = logging.getLogger(__name__)

PIXELS = "pixel_values"


class ImageSizes:
    """
    Resize the images of each step to a drawn size ([EUPE](https://huggingface.co/papers/2603.22387),
    [RADIO](https://huggingface.co/papers/2312.06709)).

    All micro-batches of a step, on all processes, have one size. It depends on the seed and the step alone, so a
    resumed run draws the same. Evaluations see each model's own size.

    Args:
        args ([`DistillationTrainingArguments`]): `image_sizes`, `teacher_image_sizes` and `seed`.
        student ([`~transformers.PreTrainedModel`]): The student, which learns to take the sizes.
        teacher ([`Teacher`], *optional*): The teacher, likewise.

    Raises:
        ValueError: A model cannot take a size, or the teacher has no image tower of its own here.
    """

    def __init__(self, args: DistillationTrainingArguments, student: PreTrainedModel, teacher: Teacher | None):
        self.seed, self.sizes, self.own, self.warned = args.seed, {}, {}, False
        # Several teachers have the prefixes of their inputs in a mapping.
        processor = getattr(teacher, "processor", None)
        self.prefixes = list(processor) if isinstance(processor, Mapping) else [PREFIX]
        if args.image_sizes is not None:
            take_sizes(student, args.image_sizes, "image_sizes")
            self.sizes[PIXELS], self.own[PIXELS] = args.image_sizes, student.config.vision_config.image_size
        if args.teacher_image_sizes is not None:
            self._add_teacher(args.teacher_image_sizes, teacher)

    def _add_teacher(self, sizes: list[int], teacher: Teacher | None) -> None:
        if not isinstance(teacher, CLIPTeacher) or not hasattr(teacher.model, "vision_model"):
            raise ValueError(
                f"`teacher_image_sizes={sizes}` with {'no teacher' if teacher is None else type(teacher).__name__}. "
                "It must be a single model of transformers or timm that sees images in each step. Leave it out; "
                "`import_checkpoint.py` makes a CLIP of transformers out of one of open_clip."
            )
        take_sizes(teacher.model, sizes, "teacher_image_sizes")
        self.sizes[PREFIX + PIXELS] = sizes
        self.own[PREFIX + PIXELS] = teacher.model.config.vision_config.image_size

    @contextmanager
    def largest_alone(self) -> Iterator[None]:
        """Draw no size but the largest of each model inside, so that a trial needs the most memory."""
        sizes, self.sizes = self.sizes, {name: [max(found)] for name, found in self.sizes.items()}
        try:
            yield
        finally:
            self.sizes = sizes

    def draw(self, name: str, step: int) -> int:
        """Return the size of a step for the student, `pixel_values`, or the teacher."""
        return random.Random(f"{self.seed} {step} {name}").choice(self.sizes[name])

    def __call__(self, inputs: dict[str, Any], step: int, training: bool) -> dict[str, Any]:
        """
        Return the inputs of both models at the sizes of a step.

        Args:
            inputs (`dict`): A collated batch.
            step (`int`): Number of the optimizer step.
            training (`bool`): False for an evaluation.
        """
        if not self.sizes or PIXELS not in inputs:
            return inputs
        # A teacher without a view of its own would see what was drawn for the student.
        found = {prefix + PIXELS: inputs[PIXELS] for prefix in self.prefixes} | inputs
        for name, sizes in self.sizes.items():
            if training:
                self._warn_of_small(found[name].shape[-1], max(sizes))
            found[name] = resized(found[name], self.draw(name, step) if training else self.own[name])
        return found

    def _warn_of_small(self, given: int, largest: int) -> None:
        if given < largest and not self.warned:
            self.warned = True
            logger.warning(
                "Images of %d pixels are enlarged to sizes up to %d, which shows nothing more. Give the collator a "
                "processor of the largest size: `resize_images(model, processor, %d)[1]`.",
                given,
                largest,
                largest,
            )


def resized(images: Tensor, side: int) -> Tensor:
    """Return images `(batch, 3, height, width)` as squares of another side, bicubic and antialiased."""
    if images.shape[-2:] == (side, side):
        return images
    return interpolate(images.float(), size=(side, side), mode="bicubic", antialias=True).to(images.dtype)


__all__ = ["ImageSizes", "resized"]
