"""Rows of images and captions to batches: one crop per picture, seen by student and teacher each in its own way."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image

from .reading.images import BrokenImageError, BrokenImages, decode_image, image_name
from .reading.tars import ERROR
from .transforms.keyed_random import CAPTION, SYNTHETIC_CAPTION, UNIFORMS_PER_ROW, row_uniforms
from .transforms.random_crop import Crop, RandomCrop
from .transforms.view import ImageView, TextView, image_view, same_rule

MAX_CAPTION = 10_000
"""Longer captions (in characters) are a page or a dump, not a caption, and take a tokenizer longer than the image."""

_CAPTIONS = ("draw", "first", "all")


class CLIPDataCollator:
    """Turns rows with `image` and `text` into one batch for a student and, where it differs, for its teacher.

    In training, one random crop is drawn per picture, with one mirroring and one change of colours, and given to both
    models, each at its own size, with its own interpolation, mean and std: the teacher must judge what the student sees (a *consistent* teacher,
    [Beyer et al.](https://huggingface.co/papers/2106.05237)). In evaluation, each model's own image processor is called.
    Rows that cannot be used (a broken image, no caption) are dropped, counted and named in the log. Where the rows have
    a column `synthetic_text`, generated captions, one of them comes with each image as well.

    Args:
        processor (`ProcessorMixin`):
            The student's, with `.image_processor` and `.tokenizer`.
        teacher_processor (`ProcessorMixin` or `dict` of them, *optional*):
            The teacher's. Its tokenizer may be `None` (a teacher without text). Of several teachers a `dict`, by what the
            names of their inputs begin with in a batch (`teacher_0_` and so on), as [`TeacherEnsemble`] has it; those
            that see alike share one tensor.
        train (`bool`, *optional*, defaults to `True`):
            Random crops and drawn captions, or each processor's own rule and first captions.
        captions (`str`, *optional*):
            Of several captions of one image: `"draw"` one (default in training), take the `"first"` (default in
            evaluation), or keep `"all"`: then there are more texts than images, and `text_image` (texts,) names the
            image of each.
        seed (`int`, *optional*, defaults to `0`):
            Crops and drawn captions follow from this and from each row's epoch and `__index__`, see [`row_uniforms`], so
            that workers, processes and a resumed run draw alike. Rows without an `__index__` draw from a generator that
            follows from this, the seed torch gave the process or dataloader worker, and the rank.
        max_broken_fraction (`float`, *optional*, defaults to `0.05`):
            The run stops with an error when a larger share of at least 100 rows is broken.
        crop: `crop_scale`, `crop_ratio`, `flip`, `color_jitter`, `color_jitter_prob` and `gray_scale_prob` of
            [`RandomCrop`].

    Attributes:
        broken ([`BrokenImages`]): What was seen and dropped, over all dataloader workers.
        epoch (`int`): The pass over the data, for rows without an `__epoch__` of their own; workers see it change.

    Returns of a call:
        `dict`: `pixel_values` (batch, 3, height, width), `input_ids` and `attention_mask` (texts, length), and
        `teacher_pixel_values`, `teacher_input_ids`, `teacher_attention_mask` where the teacher's differ. With generated
        captions `synthetic_input_ids` and `synthetic_attention_mask`, one text per image, and the teacher's likewise.
        Of rows with an `__index__` also `sample_index`, by which a message can name them.
        A batch is smaller by its dropped rows: filling the gaps with copies would put false negatives into every
        contrastive loss. Of a batch with no usable row, an earlier one is shown again.
    """

    def __init__(
        self,
        processor: Any,
        teacher_processor: Any | None = None,
        *,
        train: bool = True,
        captions: str | None = None,
        seed: int = 0,
        max_broken_fraction: float = 0.05,
        **crop: Any,
    ):
        self.train = train
        self.crop = RandomCrop(**crop)
        self.captions = captions or ("draw" if train else "first")
        if self.captions not in _CAPTIONS:
            raise ValueError(
                f"`captions={captions!r}` is unknown. It must be one of {', '.join(map(repr, _CAPTIONS))}. "
                "Leave it out for 'draw' in training and 'first' in evaluation."
            )
        self.seed = seed
        self.broken = BrokenImages(max_broken_fraction)
        self._last_rows: list[dict[str, Any]] = []
        self._generator: tuple[int, torch.Generator] | None = None
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

        self.image_processor = _part(processor, "image_processor", "processor")
        _part(processor, "tokenizer", "processor")
        # What each sees and reads, by what its names in the batch begin with: the student, and teachers that differ from it.
        self._image_processors = {"": self.image_processor}
        self._text_views = {"": TextView(processor)}
        several = isinstance(teacher_processor, Mapping)
        for name, teacher in (teacher_processor if several else {"teacher_": teacher_processor}).items():
            if teacher is not None:
                self._add_teacher(name, teacher)
        if train:
            # A JPEG is decoded at twice the size that the largest of them needs.
            self._views = {name: image_view(one) for name, one in self._image_processors.items()}
            self._views[""] = ImageView.of(self.image_processor)  # a student's size must be fixed
            side = max(max(view.size) for view in self._views.values())
            self._min_side = self.crop.min_side(side)

    def _add_teacher(self, name: str, teacher: Any) -> None:
        """Note under `name` what this teacher sees otherwise than the student; teachers that agree share one view."""
        image_processor = _part(teacher, "image_processor", "teacher_processor")
        known = [one for one in self._image_processors.values() if self._sees_alike(one, image_processor)]
        if self.image_processor not in known:
            self._image_processors[name] = (*known, image_processor)[0]
        if getattr(teacher, "tokenizer", None) is not None:
            view = TextView(teacher)
            alike = [one for one in self._text_views.values() if view.agrees_with(one)]
            if self._text_views[""] not in alike:
                self._text_views[name] = (*alike, view)[0]

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        synthetic = any("synthetic_text" in row for row in rows)
        kept, good = self._usable(rows, synthetic)
        images = [image for image, *_ in good]
        uniforms = self._uniforms(kept, synthetic) if self.train or self.captions == "draw" else []
        batch = self._pixels(images, self._crops(good, uniforms)) if self.train else self._processed(images)
        texts, owners = self._choose([captions for _, captions, *_ in good], uniforms)
        batch |= self._tokenized(texts)
        if self.captions == "all":
            batch["text_image"] = torch.tensor(owners)
        if synthetic:
            generated = [captions for _, _, captions, *_ in good]
            drawn = self.captions == "draw"
            texts = _drawn(generated, uniforms, SYNTHETIC_CAPTION) if drawn else [texts[0] for texts in generated]
            batch |= self._tokenized(texts, "synthetic_")
        if all("__index__" in row for row in kept):
            batch["sample_index"] = torch.tensor([row["__index__"] for row in kept])
        return batch

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    @epoch.setter
    def epoch(self, value: int) -> None:
        self._epoch.fill_(value)

    def _usable(self, rows: list[dict[str, Any]], synthetic: bool) -> tuple[list[dict], list[tuple]]:
        """The rows that can be used, and the (image, captions, generated captions) of each."""
        good, kept, broken = [], [], []
        for row in rows:
            try:
                good.append(self._read(row, synthetic))
                kept.append(row)
            except BrokenImageError as error:
                broken.append((image_name(row), str(error)))
        self.broken.add(len(rows), broken)
        self._last_rows = kept or self._last_rows
        if good:
            return kept, good
        # A grey picture without words only where nothing usable has been seen so far: it harms less than a dead run.
        grey = Image.new("RGB", (64, 64), (127, 127, 127)), [""], [""]
        good = [self._read(row, synthetic) for row in self._last_rows]
        return (self._last_rows, good) if good else ([{}], [grey])

    def _read(self, row: dict[str, Any], synthetic: bool) -> tuple[Image.Image, list[str], list[str]]:
        if row.get(ERROR):
            raise BrokenImageError(row[ERROR])
        captions = usable_captions(row.get("text"), "caption")
        generated = usable_captions(row.get("synthetic_text"), "generated caption") if synthetic else []
        return decode_image(row.get("image"), min_side=self._min_side if self.train else None), captions, generated

    def _uniforms(self, rows: list[dict[str, Any]], synthetic: bool) -> list[list[float]]:
        """All the chance in a batch, `UNIFORMS_PER_ROW` numbers for each row (see [`row_uniforms`])."""
        if all("__index__" in row for row in rows):
            return [row_uniforms(self.seed, row.get("__epoch__", self.epoch), row["__index__"]) for row in rows]
        process = torch.initial_seed()  # differs between dataloader workers and between epochs
        if self._generator is None or self._generator[0] != process:
            # Every rank starts from one torch seed; without its number all ranks would crop alike.
            rank = int(os.environ.get("RANK", 0))
            seed = (process * 1_000_003 + self.seed * 7_919 + rank) % 2**63
            self._generator = (process, torch.Generator().manual_seed(seed))
        uniforms = torch.rand(len(rows), SYNTHETIC_CAPTION, generator=self._generator[1])
        if synthetic or self.crop.colors_change:
            # Drawn last and only here: rows without generated captions keep the draws they always had.
            more = 1 if not self.crop.colors_change else UNIFORMS_PER_ROW - SYNTHETIC_CAPTION
            uniforms = torch.cat([uniforms, torch.rand(len(rows), more, generator=self._generator[1])], dim=1)
        return uniforms.tolist()

    def _tokenized(self, texts: list[str], prefix: str = "") -> dict[str, torch.Tensor]:
        tokens = {view: view(texts) for view in set(self._text_views.values())}
        views = self._text_views.items()
        return {f"{name}{prefix}{key}": value for name, view in views for key, value in tokens[view].items()}

    def _crops(self, good: list[tuple], uniforms: list[list[float]]) -> list[Crop]:
        return [self.crop.draw(image.size, numbers) for (image, *_), numbers in zip(good, uniforms, strict=True)]

    def _pixels(self, images: list[Image.Image], crops: list[Crop]) -> dict[str, torch.Tensor]:
        pixels, values = {}, {}
        for view in self._views.values():
            if view.grid not in pixels:
                pixels[view.grid] = view.crop(images, crops)
            if view not in values:
                values[view] = view.normalize(pixels[view.grid])
        return {f"{name}pixel_values": values[view] for name, view in self._views.items()}

    def _processed(self, images: list[Image.Image]) -> dict[str, torch.Tensor]:
        values = {id(one): one(images, return_tensors="pt")["pixel_values"] for one in self._image_processors.values()}
        return {f"{name}pixel_values": values[id(one)] for name, one in self._image_processors.items()}

    def _choose(self, captions: list[list[str]], uniforms: list[list[float]]) -> tuple[list[str], list[int]]:
        """The texts of the batch, and the image each belongs to."""
        if self.captions == "all":
            pairs = [(text, i) for i, texts in enumerate(captions) for text in texts]
            return [text for text, _ in pairs], [i for _, i in pairs]
        if self.captions == "first":
            return [texts[0] for texts in captions], list(range(len(captions)))
        return _drawn(captions, uniforms, CAPTION), list(range(len(captions)))

    def _sees_alike(self, first: Any, second: Any) -> bool:
        return image_view(first) == image_view(second) if self.train else same_rule(first, second)


def usable_captions(value: Any, name: str) -> list[str]:
    """The captions in one cell, which holds one or several."""
    texts = value if isinstance(value, (list, tuple)) else [value]
    texts = [text for text in texts if isinstance(text, str) and text.strip()]
    if not texts:
        raise BrokenImageError(f"the row has no {name}")
    short = [text for text in texts if len(text) <= MAX_CAPTION]
    if not short:
        raise BrokenImageError(f"the {name} has {len(texts[0]):,} characters: more than {MAX_CAPTION:,}")
    return short


def _drawn(captions: list[list[str]], uniforms: list[list[float]], number: int) -> list[str]:
    """One caption of each image, by one of its numbers."""
    return [texts[int(numbers[number] * len(texts))] for texts, numbers in zip(captions, uniforms, strict=True)]


def _part(processor: Any, name: str, argument: str) -> Any:
    part = getattr(processor, name, None)
    if part is None:
        raise ValueError(
            f"`{argument}` is a {type(processor).__name__} without `.{name}`. The collator needs one object with an "
            "image processor and a tokenizer. Pass what `load_clip(...)` returns beside the model, "
            "`CLIPTeacher(...).processor`, or `AutoProcessor.from_pretrained(...)`."
        )
    return part
