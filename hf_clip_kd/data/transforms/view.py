"""Views of a model: its image size, interpolation, mean and std, and its tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import get_worker_info
from transformers import PreTrainedTokenizerFast

from .naflex import NaflexImageProcessor
from .random_crop import Crop, recolored

# Tokenizers that agree on these texts (accents, digits, symbols, an unknown script, truncation) agree on captions.
_PROBES = (
    "a photo of a cat",
    "Two DOGS, 34 of them; isn't it? #1",
    "a na\u00efve caf\u00e9 \u2013 \u6771\u4eac \U0001f600 &amp; more",
    "  spaces\tand\nlines ",
    " ".join(["quintessential tobogganing"] * 60),
)

_KEPT_TEXTS = 65_536  # Texts whose tokens a view keeps: about 30 MB at 77 tokens.


@dataclass(frozen=True)
class ImageView:
    """Square (or rectangle) of pixels that a vision tower gets.

    Args:
        size (`(int, int)`): Height and width in pixels.
        resample (`int`): PIL's number of the interpolation (3 = bicubic).
        mean, std (`tuple[float, ...]`): Mean and standard deviation per channel, for pixels from 0 to 255.
    """

    size: tuple[int, int]
    resample: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    any_shape = False

    @classmethod
    def of(cls, image_processor: Any) -> ImageView:
        """Read it off a Hugging Face image processor (or any object with the same attributes).

        Raises:
            ValueError: The processor does not make pictures of one fixed size.
        """
        size = _fixed_size(image_processor)
        if size is None:
            raise ValueError(
                f"{type(image_processor).__name__} with `size={getattr(image_processor, 'size', None)}` makes "
                "pictures of no fixed size. A student's must be fixed. Use a processor with "
                "`crop_size={'height': 224, 'width': 224}, do_center_crop=True` or "
                "`size={'height': 224, 'width': 224}`."
            )
        # The rule is (x * factor - mean) / std. Here it is written for x without a factor.
        factor = image_processor.rescale_factor if getattr(image_processor, "do_rescale", True) else 1.0
        normalize = getattr(image_processor, "do_normalize", True)
        mean = image_processor.image_mean if normalize else (0.0, 0.0, 0.0)
        std = image_processor.image_std if normalize else (1.0, 1.0, 1.0)
        return cls(
            size=size,
            resample=_pil_resample(image_processor.resample),
            mean=tuple(float(m) / factor for m in mean),
            std=tuple(float(s) / factor for s in std),
        )

    @property
    def grid(self) -> tuple:
        """Key of the pixels before mean and std: views with the same key share them."""
        return self.size, self.resample

    def crop(self, images: Sequence[Image.Image], crops: Sequence[Crop]) -> torch.Tensor:
        """Cut and resize in one pass per picture, then change the colours of the crop.

        Returns:
            `torch.Tensor` of shape `(batch, height, width, 3)`, uint8.
        """
        height, width = self.size
        batch = np.empty((len(images), height, width, 3), dtype=np.uint8)
        for out, image, crop in zip(batch, images, crops, strict=True):
            if image.size != (width, height) or crop.box != (0, 0, width, height):
                image = image.resize((width, height), self.resample, box=crop.box)
            pixels = np.asarray(recolored(image, crop.colors))
            out[...] = pixels[:, ::-1] if crop.flip else pixels
        return torch.from_numpy(batch)

    def normalize(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalise pixels: `(batch, height, width, 3)` uint8 -> `(batch, 3, height, width)` float32."""
        mean = torch.tensor(self.mean).view(3, 1, 1)
        std = torch.tensor(self.std).view(3, 1, 1)
        values = _room(len(pixels), 3, *pixels.shape[1:3])
        for value, picture in zip(values, pixels, strict=True):  # One picture fits into the cache of a core.
            value.copy_(picture.permute(2, 0, 1)).sub_(mean).div_(std)
        return values


@dataclass(frozen=True)
class OwnView:
    """View of a vision tower of any image size (SigLIP 2 NaFlex): the crop, through its own image processor.

    Args:
        image_processor: Maps pictures to `pixel_values`.
        size (`(int, int)`, *optional*): Height and width that it needs at most; JPEGs are decoded at twice that.
    """

    image_processor: Any
    size: tuple[int, int] = (512, 512)
    any_shape = True

    @property
    def grid(self) -> tuple:
        return (id(self.image_processor),)

    def crop(self, images: Sequence[Image.Image], crops: Sequence[Crop]) -> list[Image.Image]:
        """Cut, and leave the size to the processor."""
        cut = [recolored(image.crop(crop.box), crop.colors) for image, crop in zip(images, crops, strict=True)]
        return [ImageOps.mirror(image) if crop.flip else image for image, crop in zip(cut, crops, strict=True)]

    def normalize(self, images: list[Image.Image]) -> torch.Tensor:
        """Make `pixel_values` with the processor."""
        return self.image_processor(images, return_tensors="pt")["pixel_values"]


def image_view(image_processor: Any) -> ImageView | OwnView:
    """Return the view of a student or teacher for training: one fixed size, or the processor's own rule."""
    return ImageView.of(image_processor) if _fixed_size(image_processor) else OwnView(image_processor)


def student_view(image_processor: Any) -> ImageView | OwnView:
    """Return the view of a student, of one fixed size or of any shape; raise a ValueError for another."""
    any_shape = isinstance(image_processor, NaflexImageProcessor)
    return OwnView(image_processor) if any_shape else ImageView.of(image_processor)


def _fixed_size(image_processor: Any) -> tuple[int, int] | None:
    """Return (height, width) of the pictures it makes, or `None` if the size depends on the picture."""
    name = "crop_size" if getattr(image_processor, "do_center_crop", None) else "size"
    size = getattr(image_processor, name, None) or {}
    height, width = size.get("height"), size.get("width")
    return (int(height), int(width)) if height and width else None


def _room(*shape: int) -> torch.Tensor:
    """Return an empty float32 tensor. A worker has it in shared memory, and so sends it without another copy."""
    if get_worker_info() is None:
        return torch.empty(shape)
    storage = torch.UntypedStorage._new_shared(4 * math.prod(shape))  # The way of torch's `default_collate`.
    return torch.empty(0).set_(storage, 0, shape)


def _pil_resample(value: Any) -> int:
    """Return PIL's number, also for a processor that names a torchvision `InterpolationMode`."""
    if hasattr(value, "name"):
        return int(Image.Resampling[value.name])
    return int(value)


class TextView:
    """Tokenizer of a model with its own context length and padding.

    CLIP's text tower is causal and pools at the first end-of-text token, so padding behind it changes nothing. Its
    batches are padded to their longest caption. All others (SigLIP was trained on padding) get the full context.

    Every text that reaches a dual encoder comes through here, in training and in evaluation.

    Args:
        processor (`ProcessorMixin`): Has `.tokenizer`, fitted to its model by
            [`~hf_clip_kd.models.fit_processor`], and `.context_length` if its tokenizer does not know it.
        padding (`str`, *optional*): `"longest"` or `"max_length"`, in place of the rule above.

    Raises:
        ValueError: The context length is not known.
    """

    def __init__(self, processor: Any, padding: str | None = None):
        self.tokenizer = processor.tokenizer
        limit = getattr(self.tokenizer, "model_max_length", None)
        length = getattr(processor, "context_length", None) or limit
        if not length or length > 100_000:
            raise ValueError(
                f"The context length of {type(self.tokenizer).__name__} is not known (model_max_length={limit}). It "
                "must be the number of positions of the text tower. Set `processor.tokenizer.model_max_length = "
                "model.config.text_config.max_position_embeddings`."
            )
        self.context_length = int(length)
        causal = type(self.tokenizer).__name__ in ("CLIPTokenizer", "CLIPTokenizerFast")
        # A tower without a mask (a SigLIP with CLIP's tokenizer) reads the padding.
        masked = "attention_mask" in getattr(self.tokenizer, "model_input_names", ())
        self.padding = padding or ("longest" if causal and masked else "max_length")
        # Others pad by rules of their own.
        self._keeps = (
            isinstance(self.tokenizer, PreTrainedTokenizerFast)
            and self.tokenizer.padding_side == "right"
            and self.tokenizer.pad_token_id is not None
        )
        self._kept: dict[str, bytes] = {}

    def __call__(self, texts: list[str]) -> dict[str, torch.Tensor]:
        """Make `input_ids` (texts, length) and, if the tokenizer has one, `attention_mask`, int64.

        A fast tokenizer meets a text once. Its tokens are kept, as captions come again in every epoch.
        """
        if not self._keeps or not texts:
            tokens = self.tokenizer(
                texts, padding=self.padding, truncation=True, max_length=self.context_length, return_tensors="pt"
            )
            return {key: tokens[key] for key in ("input_ids", "attention_mask") if key in tokens}
        rows = np.frombuffer(b"".join(self._rows(texts)), dtype=np.int32).reshape(len(texts), -1)
        lengths, ids = torch.from_numpy(rows[:, :1].astype(np.int64)), torch.from_numpy(rows[:, 1:].astype(np.int64))
        longest = self.context_length if self.padding == "max_length" else int(lengths.max())
        tokens = {"input_ids": ids[:, :longest].contiguous()}
        if "attention_mask" in self.tokenizer.model_input_names:
            tokens["attention_mask"] = (torch.arange(longest) < lengths).long()
        return tokens

    def _rows(self, texts: list[str]) -> list[bytes]:
        """Return of each text its length and its tokens, padded to the context length, as int32."""
        new = [text for text in dict.fromkeys(texts) if text not in self._kept]
        made = {}
        if new:
            ids = self.tokenizer(new, truncation=True, max_length=self.context_length)["input_ids"]
            table = np.full((len(new), 1 + self.context_length), self.tokenizer.pad_token_id, dtype=np.int32)
            for row, tokens in zip(table, ids, strict=True):
                row[0], row[1 : 1 + len(tokens)] = len(tokens), tokens
            made = dict(zip(new, map(bytes, table), strict=True))
        rows = [made.get(text) or self._kept[text] for text in texts]
        # The first texts stay. Rows that come in a new order in each epoch gain nothing from keeping the last ones.
        if len(self._kept) < _KEPT_TEXTS:
            self._kept |= made
        return rows

    def agrees_with(self, other: TextView) -> bool:
        """Tell if both turn every text into the same ids, padding included."""
        if self.tokenizer is other.tokenizer and self.context_length == other.context_length:
            return True
        if (self.context_length, self.padding) != (other.context_length, other.padding):
            return False
        if all(hasattr(view.tokenizer, "get_vocab") for view in (self, other)):
            if self.tokenizer.get_vocab() != other.tokenizer.get_vocab():
                return False
        mine, theirs = self(list(_PROBES)), other(list(_PROBES))
        return mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)


def same_rule(first: Any, second: Any) -> bool:
    """Tell if two image processors treat every picture alike: resize, crop, interpolation, backend."""
    if first is second:
        return True
    return type(first) is type(second) and hasattr(first, "to_dict") and _settings(first) == _settings(second)


def _settings(image_processor: Any) -> dict[str, Any]:
    settings = image_processor.to_dict()
    settings.pop("processor_class", None)  # This names the class of the folder that it was saved in.
    return settings
