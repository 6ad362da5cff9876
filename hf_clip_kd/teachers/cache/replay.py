"""ReplayCollator: the crops of a teacher cache once more, with the stored features, for a student."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import torch

from ...data.collator import CLIPDataCollator
from ...data.exchanges import Exchange
from ...data.reading.images import BrokenImageError
from ...data.transforms.keyed_random import UNIFORMS_PER_ROW
from ...data.transforms.random_crop import Box, Crop, RandomCrop
from .answers import stored_answers
from .sample_id import sample_id, text_ids


class ReplayCollator(CLIPDataCollator):
    """
    A [`CLIPDataCollator`] that repeats the crops of a teacher cache, and adds the stored features of them.

    A picture has crop number `e % augmentations` in epoch e. One of several captions is drawn as ever: the cache holds
    all of them. A sample that the cache lacks is dropped and counted as a broken one.

    A call returns the `dict` of [`CLIPDataCollator`] without a teacher. It adds `teacher_0_image_embeds` (batch, dim)
    and so on for [`~hf_clip_kd.TeacherCache.of_batch`].

    Args:
        processor (`ProcessorMixin`):
            The student's, with `.image_processor` and `.tokenizer`.
        cache ([`~hf_clip_kd.TeacherCache`]):
            The trainer's teacher. It decides on crops, mirroring and colours.
        seed, max_broken_fraction, readers:
            Arguments of [`CLIPDataCollator`].
    """

    def __init__(
        self,
        processor: Any,
        cache: Any,
        *,
        seed: int = 0,
        max_broken_fraction: float = 0.05,
        readers: Sequence[Callable] = (),
    ):
        # A cache of an older version does not name its `drop_alpha`: it lies on white.
        settings = {"drop_alpha": 0.0} | cache.settings
        crop = {field.name: settings[field.name] for field in fields(RandomCrop)}
        super().__init__(processor, seed=seed, max_broken_fraction=max_broken_fraction, readers=readers, **crop)
        self.cache = cache
        # A JPEG that is decoded smaller than it was for the teachers gives slightly other pixels.
        self._min_side = max(self._min_side, cache.settings["min_side"])
        self._good: list[tuple] = []
        self._places: list[int] = []
        self._epochs: list[int] = []

    def _read(self, row: dict[str, Any], synthetic: bool) -> tuple:
        sample = super()._read(row, synthetic)
        _, captions, generated = sample
        answered = bool(self.readers) and "answers" in self.cache.manifest
        texts = text_ids(row, captions, generated, answered)
        place = self.cache.find(sample_id(row["image"], captions), texts)
        if place is None:
            raise BrokenImageError(
                f"the teacher cache {str(self.cache.folder)!r} does not hold this image with these texts"
            )
        return *sample, place

    def _usable(self, rows: list[dict[str, Any]], synthetic: bool) -> tuple[list[dict], list[tuple]]:
        kept, good = super()._usable(rows, synthetic)
        # A first batch without any usable row holds a grey picture, with the features of some sample.
        self._good = [sample if len(sample) == 4 else (*sample, 0) for sample in good]
        self._places = [place for *_, place in self._good]
        self._epochs = [row.get("__epoch__", self.epoch) for row in kept]
        return kept, self._good

    def _uniforms(self, rows: list[dict[str, Any]], synthetic: bool) -> list[list[float]]:
        # The crops are stored. Only a choice among texts needs a number, and a numbered row keeps no state.
        single = all(len(given) == 1 and len(generated) <= 1 for _, given, generated, _ in self._good)
        if single and not self.readers and all("__index__" in row for row in rows):
            return [[0.0] * UNIFORMS_PER_ROW] * len(rows)
        return super()._uniforms(rows, synthetic)

    def _crops(self, good: list[tuple], uniforms: list[list[float]]) -> list[Crop]:
        crops = self.cache.crops(self._places, self._epochs)
        return [Crop(_pixels(box, *image.size), *rest) for (box, *rest), (image, *_) in zip(crops, good, strict=True)]

    def _pixels(self, *args) -> dict[str, torch.Tensor]:
        return super()._pixels(*args) | self.cache.images(self._places, self._epochs)

    def _tokenized(self, texts: list[str], prefix: str = "") -> dict[str, torch.Tensor]:
        captions = [generated if prefix else given for _, given, generated, _ in self._good]
        numbers = [cell.index(text) for cell, text in zip(captions, texts, strict=True)]
        return super()._tokenized(texts, prefix) | self.cache.texts(self._places, numbers, prefix)

    def _written(self, rows: list[dict[str, Any]], chosen: list[Exchange]) -> dict[str, torch.Tensor]:
        captions = [given for _, given, *_ in self._good]
        where = (self._places, self._epochs, rows, captions, chosen, self.readers)
        return super()._written(rows, chosen) | stored_answers(self.cache, *where)


def _pixels(box: list[float], width: int, height: int) -> Box:
    """Turn a crop in shares of a picture into its pixels."""
    return tuple(round(share * side) for share, side in zip(box, (width, height) * 2, strict=True))
