"""Batches of images and captions: student and teacher see the same crop, each in its own form."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from PIL import Image

from .exchanges import Exchange, exchanges, texts_of
from .reading.images import BrokenImageError, BrokenImages, decode_image, decode_with_alpha, image_name
from .reading.tars import ERROR
from .reading.transparency import flatten
from .texts import usable_captions
from .transforms.keyed_random import BACKGROUND, CAPTION, SYNTHETIC_CAPTION, UNIFORMS_PER_ROW, row_uniforms
from .transforms.naflex import packed
from .transforms.random_crop import Crop, RandomCrop
from .transforms.view import TextView, image_view, same_rule, student_view

_CAPTIONS = ("draw", "first", "all")


class CLIPDataCollator:
    """Collator that makes one batch of rows with `image` and `text`, for a student and its teacher.

    In training, it draws one random crop, one mirroring and one change of colours per image. Both models get this
    crop, each at its own size and with its own interpolation, mean and std. The teacher must judge the image that the
    student sees (a *consistent* teacher, [Beyer et al.](https://huggingface.co/papers/2106.05237)). Transparency is
    laid on white or dropped, at random. In evaluation, it calls each model's own image processor, and transparency
    lies on white. It drops unusable rows (a broken image, no caption), counts them and names them in the log. Rows may
    have generated captions, in a column `synthetic_text`. Each image then also gets one of them.

    Args:
        processor (`ProcessorMixin`):
            The student's processor, with `.image_processor` and `.tokenizer`.
        teacher_processor (`ProcessorMixin` or `dict` of them, *optional*):
            The teacher's processor. Its tokenizer may be `None` (a teacher without text). Several teachers are a
            `dict` of prefix and processor, as in [`TeacherEnsemble`]. The prefix (`teacher_0_` and so on) begins the
            names of the teacher's inputs in a batch. Teachers with equal views share one tensor.
        train (`bool`, *optional*, defaults to `True`):
            `True` draws random crops and captions. `False` takes each processor's own rule and the first captions.
        captions (`str`, *optional*):
            Choice among several captions of one image. `"draw"` draws one (default in training). `"first"` takes the
            first (default in evaluation). `"all"` keeps them all, and `text_image` (texts,) holds each text's image.
        seed (`int`, *optional*, defaults to `0`):
            Seed of crops and drawn captions. They depend on it, on the row's epoch and on its `__index__`, see
            [`row_uniforms`]. All workers, processes and resumed runs therefore draw the same. Rows without an
            `__index__` draw from a generator. Its seed is made of this seed, torch's seed of the process or worker,
            and the rank.
        max_broken_fraction (`float`, *optional*, defaults to `0.05`):
            Largest share of broken rows, measured from 100 rows on. The run stops with an error above it. A
            shorter run ends in one if half of its rows are broken, or more than this share of 100.
        readers (`Sequence[Callable]`, *optional*):
            The `texts` of frozen readers. Each writes a question of a row with its answer, or the row's caption.
        crop:
            `crop_scale`, `crop_ratio`, `flip`, `color_jitter`, `color_jitter_prob`, `gray_scale_prob` and
            `drop_alpha` of [`RandomCrop`].

    Attributes:
        processor (`ProcessorMixin`): The student's processor.
        broken ([`BrokenImages`]): Counts of rows seen and dropped, over all dataloader workers.
        epoch (`int`): Pass over the data, for rows without an `__epoch__`. Workers see it change.
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
        readers: Sequence[Callable[[list[Exchange]], dict[str, torch.Tensor]]] = (),
        **crop: Any,
    ):
        self.train, self.readers = train, readers
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
        self._generators: tuple[int, torch.Generator, torch.Generator] | None = None
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

        self.processor = processor
        self.image_processor = packed(_part(processor, "image_processor", "processor"))
        self.tokenizer = _part(processor, "tokenizer", "processor")
        # The keys are prefixes of names in the batch. The student has an empty prefix.
        # A teacher has an entry only if its view differs from the student's.
        self._image_processors = {"": self.image_processor}
        self._text_views = {"": TextView(processor)}
        for name, teacher in by_prefix(teacher_processor).items():
            self._add_teacher(name, teacher)
        if train:
            self._views = {name: image_view(rule) for name, rule in self._image_processors.items()}
            self._views[""] = student_view(self.image_processor)
            # The largest view decides at which size a JPEG is decoded.
            side = max(max(view.size) for view in self._views.values())
            self._min_side = self.crop.min_side(side)

    def _add_teacher(self, name: str, teacher: Any) -> None:
        """Add the views of a teacher under `name` if they differ from the student's. Equal teachers share one view."""
        image_processor = packed(_part(teacher, "image_processor", "teacher_processor"))
        known = [rule for rule in self._image_processors.values() if self._sees_alike(rule, image_processor)]
        if self.image_processor not in known:
            self._image_processors[name] = known[0] if known else image_processor
        if getattr(teacher, "tokenizer", None) is not None:
            text_view = TextView(teacher)
            known = [view for view in self._text_views.values() if text_view.agrees_with(view)]
            if self._text_views[""] not in known:
                self._text_views[name] = known[0] if known else text_view

    def check_teacher(self, teacher_processor: Any) -> None:
        """Refuse a teacher to which this collator gives other tokens than the teacher's own.

        Args:
            teacher_processor (`ProcessorMixin` or `dict` of them): That of the teacher.

        Raises:
            ValueError: The collator was made without it, or with another.
        """
        for name, teacher in by_prefix(teacher_processor).items():
            given = self._text_views.get(name, self._text_views[""])
            if getattr(teacher, "tokenizer", None) is not None and not TextView(teacher).agrees_with(given):
                raise ValueError(
                    f"The collator writes the texts of the teacher {name!r} with a {type(given.tokenizer).__name__}, "
                    "and the teacher reads other tokens. Each model must get its own. Pass CLIPDataCollator("
                    "processor, teacher.processor)."
                )

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Make one batch.

        Args:
            rows (`list[dict]`): Rows with `image`, `text` and perhaps `synthetic_text`, `__index__`, `__epoch__`.

        Returns:
            `dict`:
            - `pixel_values` (batch, 3, height, width), `input_ids` and `attention_mask` (texts, length);
            - `teacher_pixel_values`, `teacher_input_ids`, `teacher_attention_mask` if the teacher's differ;
            - with generated captions `synthetic_input_ids` and `synthetic_attention_mask`, one text per image, and the
              same for the teacher;
            - `reader_0_input_ids`, `reader_0_attention_mask` and `reader_0_labels`, and so on for each reader;
            - `sample_index` (batch,) if the rows have an `__index__`, so that messages can name them.

            A batch is smaller by its dropped rows. Copies in the gaps would be false negatives in contrastive losses.
            A batch without any usable row repeats an earlier batch.
        """
        synthetic = any("synthetic_text" in row for row in rows)
        kept, good = self._usable(rows, synthetic)
        images = [image for image, *_ in good]
        uniforms = self._uniforms(kept, synthetic) if self.train or self.captions == "draw" else []
        batch = self._pixels(images, self._crops(good, uniforms)) if self.train else self._processed(images)
        texts, owners = self._choose([captions for _, captions, *_ in good], uniforms)
        batch |= self._tokenized(texts)
        if self.readers:
            batch |= self._written(kept, exchanges(kept, texts, uniforms))
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

    def check_rows(self) -> None:
        """Judge the rows of a whole run, see [`BrokenImages.check`]; a trainer calls it at the end."""
        self.broken.check()

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    @epoch.setter
    def epoch(self, value: int) -> None:
        self._epoch.fill_(value)

    def _usable(self, rows: list[dict[str, Any]], synthetic: bool) -> tuple[list[dict], list[tuple]]:
        """Return the usable rows, and the (image, captions, generated captions) of each."""
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
        # Nothing usable has been seen so far. A grey image without words harms less than a dead run.
        grey = Image.new("RGB", (64, 64), (127, 127, 127)), [""], [""]
        good = [self._read(row, synthetic) for row in self._last_rows]
        return (self._last_rows, good) if good else ([{}], [grey])

    def _read(self, row: dict[str, Any], synthetic: bool) -> tuple[Image.Image, list[str], list[str]]:
        if row.get(ERROR):
            raise BrokenImageError(row[ERROR])
        captions = usable_captions(row.get("text"), "caption")
        generated = usable_captions(row.get("synthetic_text"), "generated caption") if synthetic else []
        if not self.train:
            return decode_image(row.get("image")), captions, generated
        return decode_with_alpha(row.get("image"), min_side=self._min_side), captions, generated

    def _uniforms(self, rows: list[dict[str, Any]], synthetic: bool) -> list[list[float]]:
        """Draw all random numbers of a batch, `UNIFORMS_PER_ROW` for each row (see [`row_uniforms`])."""
        if all("__index__" in row for row in rows):
            return [row_uniforms(self.seed, row.get("__epoch__", self.epoch), row["__index__"]) for row in rows]
        process = torch.initial_seed()  # It differs between dataloader workers and between epochs.
        if self._generators is None or self._generators[0] != process:
            # All ranks have the same torch seed. The rank's number makes their crops differ.
            seed = (process * 1_000_003 + self.seed * 7_919 + int(os.environ.get("RANK", 0))) % 2**63
            backgrounds = torch.Generator().manual_seed((seed + 2**62) % 2**63)
            self._generators = (process, torch.Generator().manual_seed(seed), backgrounds)
        _, generator, backgrounds = self._generators
        uniforms = torch.zeros(len(rows), UNIFORMS_PER_ROW)
        uniforms[:, :SYNTHETIC_CAPTION] = torch.rand(len(rows), SYNTHETIC_CAPTION, generator=generator)
        if synthetic or self.crop.colors_change:
            # These numbers are drawn last, so that rows without generated captions keep their crops.
            end = BACKGROUND if self.crop.colors_change else SYNTHETIC_CAPTION + 1
            more = torch.rand(len(rows), end - SYNTHETIC_CAPTION, generator=generator)
            uniforms[:, SYNTHETIC_CAPTION:end] = more
        uniforms[:, BACKGROUND] = torch.rand(len(rows), generator=backgrounds)
        return uniforms.tolist()

    def _tokenized(self, texts: list[str], prefix: str = "") -> dict[str, torch.Tensor]:
        tokens = {view: view(texts) for view in set(self._text_views.values())}
        views = self._text_views.items()
        return {f"{name}{prefix}{key}": value for name, view in views for key, value in tokens[view].items()}

    def _written(self, rows: list[dict[str, Any]], chosen: list[Exchange]) -> dict[str, torch.Tensor]:
        return texts_of(self.readers, chosen)

    def _crops(self, good: list[tuple], uniforms: list[list[float]]) -> list[Crop]:
        keep_shape, rows = self._views[""].any_shape, zip(good, uniforms, strict=True)
        return [self.crop.draw(image.size, numbers, keep_shape) for (image, *_), numbers in rows]

    def _pixels(
        self, images: list[Image.Image], crops: list[Crop], names: list[str] | None = None
    ) -> dict[str, torch.Tensor]:
        images = [flatten(image, crop.dropped) for image, crop in zip(images, crops, strict=True)]
        views = {name: self._views[name] for name in (self._views if names is None else names)}
        pixels, values = {}, {}
        for view in views.values():
            if view.grid not in pixels:
                pixels[view.grid] = view.crop(images, crops)
            if view not in values:
                values[view] = view.normalize(pixels[view.grid])
        return {f"{name}pixel_values": values[view] for name, view in views.items()}

    def _processed(self, images: list[Image.Image]) -> dict[str, torch.Tensor]:
        values = {
            id(rule): rule(images, return_tensors="pt")["pixel_values"] for rule in self._image_processors.values()
        }
        return {f"{name}pixel_values": values[id(rule)] for name, rule in self._image_processors.items()}

    def _choose(self, captions: list[list[str]], uniforms: list[list[float]]) -> tuple[list[str], list[int]]:
        """Return the texts of the batch, and the number of each text's image."""
        if self.captions == "all":
            pairs = [(text, i) for i, texts in enumerate(captions) for text in texts]
            return [text for text, _ in pairs], [i for _, i in pairs]
        if self.captions == "first":
            return [texts[0] for texts in captions], list(range(len(captions)))
        return _drawn(captions, uniforms, CAPTION), list(range(len(captions)))

    def _sees_alike(self, first: Any, second: Any) -> bool:
        return same_rule(first, second) or (self.train and image_view(first) == image_view(second))


def _drawn(captions: list[list[str]], uniforms: list[list[float]], number: int) -> list[str]:
    """Choose one caption of each image by the random number at position `number`."""
    return [texts[int(numbers[number] * len(texts))] for texts, numbers in zip(captions, uniforms, strict=True)]


def by_prefix(teacher_processor: Any) -> Mapping[str, Any]:
    """Return the processors of teachers by the prefix of their inputs."""
    teachers = teacher_processor if isinstance(teacher_processor, Mapping) else {"teacher_": teacher_processor}
    return {name: teacher for name, teacher in teachers.items() if teacher is not None}


def _part(processor: Any, name: str, argument: str) -> Any:
    part = getattr(processor, name, None)
    if part is None:
        raise ValueError(
            f"`{argument}` is a {type(processor).__name__} without `.{name}`. The collator needs one object with an "
            "image processor and a tokenizer. Pass what `load_clip(...)` returns beside the model, "
            "`CLIPTeacher(...).processor`, or `AutoProcessor.from_pretrained(...)`."
        )
    return part
