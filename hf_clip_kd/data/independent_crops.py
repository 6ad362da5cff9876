"""A published defect as a switch: teacher and student see different random crops of an image."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image

from .collator import CLIPDataCollator
from .transforms.keyed_random import row_uniforms
from .transforms.random_crop import Crop

TEACHER_SEED = 2**63  # It is added to the seed, for numbers that no student draws.


class IndependentCropsCollator(CLIPDataCollator):
    """
    Collator whose teacher sees another random crop than the student. This is a defect, for studies of published code.

    Code that transforms an image once for each model draws two crops. The student is then told what the teacher sees
    elsewhere. Mirroring, colours and dropped transparency are drawn apart as well. Captions are the same. Several
    teachers share their crop.

    Args:
        processor, teacher_processor, seed, crop: Arguments of [`CLIPDataCollator`].
    """

    def _add_teacher(self, name: str, teacher: Any) -> None:
        super()._add_teacher(name, teacher)
        self._image_processors[name] = teacher.image_processor  # also where it is that of the student

    def _uniforms(self, rows: list[dict[str, Any]], synthetic: bool) -> list[list[float]]:
        student = super()._uniforms(rows, synthetic)
        if all("__index__" in row for row in rows):
            keys = [(row.get("__epoch__", self.epoch), row["__index__"]) for row in rows]
            self._of_teacher = [row_uniforms(self.seed + TEACHER_SEED, *key) for key in keys]
        else:
            self._of_teacher = super()._uniforms(rows, synthetic)
        return student

    def _crops(self, good: list[tuple], uniforms: list[list[float]]) -> list[Crop]:
        self._teacher_crops = super()._crops(good, self._of_teacher)
        return super()._crops(good, uniforms)

    def _pixels(
        self, images: list[Image.Image], crops: list[Crop], names: list[str] | None = None
    ) -> dict[str, torch.Tensor]:
        teachers = [name for name in self._views if name]
        student = super()._pixels(images, crops, [""])
        return student | super()._pixels(images, self._teacher_crops, teachers)


__all__ = ["IndependentCropsCollator"]
