"""AugmentationCollator: several random crops of each picture and all of its captions, for a teacher to embed once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from PIL import Image

from ...data.reading.images import BrokenImageError, BrokenImages, decode_with_alpha, image_name
from ...data.reading.tars import ERROR
from ...data.reading.transparency import flatten
from ...data.texts import usable_captions
from ...data.transforms.keyed_random import row_uniforms
from ...data.transforms.random_crop import Crop, RandomCrop
from ...data.transforms.view import _PROBES, ImageView, OwnView, TextView, image_view
from .answers import written
from .sample_id import sample_id, text_ids


class AugmentationCollator:
    """
    Turn rows into the crops that [`CLIPDataCollator`] would draw in the epochs 0, 1, ..., as several teachers see
    them.

    A call returns a `dict` of the rows that can be used, or `None` if there is no such row:

    - `ids` (rows,) int64; `synthetic_ids` and `exchange_ids`, as [`text_ids`] has them.
    - `boxes` (rows, augmentations, 4) float32: left, top, right, bottom of the crops in shares of the picture.
    - `flips` (rows, augmentations) bool.
    - `colors` (rows, augmentations, 5) float32, as [`~hf_clip_kd.data.transforms.random_crop.Crop`] has them.
    - `dropped` (rows, augmentations) bool, missing if `drop_alpha` is 0.
    - `counts` and `synthetic_counts` (rows,): number of captions of each row.
    - `views`: for each teacher a `dict` of `pixel_values` (rows * augmentations, 3, height, width), and `input_ids`
      and so on (captions, length), row by row.

    Args:
        processor (`TeacherProcessor` or `dict` of them):
            A teacher's, with `.image_processor` and `.tokenizer` (`None` for one without text). An ensemble has one
            for each of its teachers.
        augmentations (`int`, *optional*, defaults to `1`):
            Number of crops of each image.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the crops, as in [`CLIPDataCollator`].
        synthetic (`bool`, *optional*, defaults to `False`):
            Tokenize the rows' generated captions, too.
        max_broken_fraction, readers, crop:
            Arguments of [`CLIPDataCollator`].

    Attributes:
        settings (`dict`): All that the outputs depend on beside the rows, in the types of JSON.
        broken ([`BrokenImages`]): Counts of the rows that were seen and dropped.
    """

    def __init__(
        self,
        processor: Any,
        *,
        augmentations: int = 1,
        seed: int = 0,
        synthetic: bool = False,
        max_broken_fraction: float = 0.05,
        readers: Sequence = (),
        **crop: Any,
    ):
        if augmentations < 1:
            raise ValueError(
                f"`augmentations={augmentations}` leaves nothing to see. It must be at least 1. Pass "
                "`augmentations=4`."
            )
        self.augmentations, self.seed, self.synthetic, self.readers = augmentations, seed, synthetic, readers
        self.crop = RandomCrop(**crop)
        self.broken = BrokenImages(max_broken_fraction)
        processors = list(processor.values()) if isinstance(processor, dict) else [processor]
        self.image_views = [image_view(processor.image_processor) for processor in processors]
        self.text_views = [
            None if getattr(processor, "tokenizer", None) is None else TextView(processor) for processor in processors
        ]
        self.min_side = self.crop.min_side(max(max(view.size) for view in self.image_views))

    @property
    def settings(self) -> dict[str, Any]:
        crop = asdict(self.crop)
        if not self.crop.drop_alpha:  # Caches of older versions lie on white and have no such entry.
            del crop["drop_alpha"]
        return {
            **{name: list(value) if isinstance(value, tuple) else value for name, value in crop.items()},
            "augmentations": self.augmentations,
            "seed": self.seed,
            "min_side": self.min_side,
            "synthetic": self.synthetic,
            "views": [
                {"images": _image_settings(view), "texts": None if text is None else _text_settings(text)}
                for view, text in zip(self.image_views, self.text_views, strict=True)
            ],
        }

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any] | None:
        good, broken = [], []
        for row in rows:
            try:
                good.append(self._read(row))
            except BrokenImageError as error:
                broken.append((image_name(row), str(error)))
        self.broken.add(len(rows), broken)
        if not good:
            return None
        images, captions, generated, ids, others, indices, kept = zip(*good, strict=True)
        numbers = [row_uniforms(self.seed, epoch, i) for i in indices for epoch in range(self.augmentations)]
        owners = [image for image in images for _ in range(self.augmentations)]
        crops = [self.crop.draw(image.size, uniforms) for image, uniforms in zip(owners, numbers, strict=True)]
        boxes, flips, colors, dropped = map(torch.tensor, zip(*crops, strict=True))
        boxes = boxes / torch.tensor([2 * image.size for image in owners])
        views = [{"pixel_values": pixels} for pixels in self._pixels(self._flat(images, crops), crops)]
        batch = {"ids": torch.tensor(ids), "views": views}
        batch |= {name: torch.tensor([row[name] for row in others]) for name in others[0]}
        if self.readers:
            batch |= written(kept, captions, self.readers)
        changes = {"boxes": boxes, "flips": flips, "colors": colors}
        if self.crop.drop_alpha:
            changes["dropped"] = dropped
        for name, values in changes.items():
            batch[name] = values.unflatten(0, (len(ids), self.augmentations))
        texts = {"": captions, "synthetic_": generated} if self.synthetic else {"": captions}
        for prefix, cells in texts.items():
            batch[f"{prefix}counts"] = torch.tensor([len(cell) for cell in cells])
            flat = [text for cell in cells for text in cell]
            for view, tokenize in zip(views, self.text_views, strict=True):
                tokens = {} if tokenize is None else tokenize(flat)
                view.update({prefix + name: values for name, values in tokens.items()})
        return batch

    def _read(self, row: dict[str, Any]) -> tuple:
        if row.get(ERROR):
            raise BrokenImageError(row[ERROR])
        captions = usable_captions(row.get("text"), "caption")
        generated = usable_captions(row.get("synthetic_text"), "generated caption") if self.synthetic else []
        image = decode_with_alpha(row.get("image"), min_side=self.min_side)
        others = text_ids(row, captions, generated, bool(self.readers))
        return image, captions, generated, sample_id(row["image"], captions), others, row["__index__"], row

    def _flat(self, images: Sequence[Image.Image], crops: Sequence[Crop]) -> list[Image.Image]:
        """Return an opaque picture for each crop; crops of a picture share at most two of them."""
        wanted = [(number // self.augmentations, crop.dropped) for number, crop in enumerate(crops)]
        flat = {(owner, dropped): flatten(images[owner], dropped) for owner, dropped in set(wanted)}
        return [flat[key] for key in wanted]

    def _pixels(self, images: Sequence[Any], crops: Sequence[Crop]) -> list[torch.Tensor]:
        pixels = {view.grid: None for view in self.image_views}
        for view in self.image_views:
            if pixels[view.grid] is None:
                pixels[view.grid] = view.crop(images, crops)
        return [view.normalize(pixels[view.grid]) for view in self.image_views]


def _image_settings(view: ImageView | OwnView) -> dict[str, Any]:
    return asdict(view) if isinstance(view, ImageView) else view.image_processor.to_dict()


def _text_settings(view: TextView) -> dict[str, Any]:
    """Return values that tell two tokenizers apart: their length, their padding, and their ids of odd texts."""
    ids = view(list(_PROBES))["input_ids"].tolist()
    return {
        "context_length": view.context_length,
        "padding": view.padding,
        "ids": hashlib.sha256(repr(ids).encode()).hexdigest(),
    }
