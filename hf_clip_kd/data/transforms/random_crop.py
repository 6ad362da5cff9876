"""Random crops, mirroring and colour changes, applied to an image before any model sees it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image
from torchvision.transforms import functional as F

from .keyed_random import BACKGROUND, COLORS, FLIP, UNIFORMS_PER_CROP

Box = tuple[int, int, int, int]
Colors = tuple[float, float, float, float, float]

UNCHANGED: Colors = (1.0, 1.0, 1.0, 0.0, 0.0)


class Crop(NamedTuple):
    """
    Changes of one image.

    Attributes:
        box (`Box`): Left, top, right and bottom in pixels.
        flip (`bool`): `True` mirrors the crop.
        colors (`Colors`): Factors of brightness, contrast and saturation, then the turn of the hue and grey. The hue
            is in turns, -0.5 to 0.5. Grey is 1 or 0.
        dropped (`bool`): `True` drops the transparency of the image, `False` lays it on white, see [`flatten`].
    """

    box: Box
    flip: bool = False
    colors: Colors = UNCHANGED
    dropped: bool = False


@dataclass(frozen=True)
class RandomCrop:
    """
    Rule that draws a [`Crop`] for each image, like torchvision's `RandomResizedCrop`, `ColorJitter`,
    `RandomGrayscale`.

    Args:
        crop_scale (`tuple[float, float]`, *optional*, defaults to 0.9 and 1.0):
            Smallest and largest share of the area that a crop keeps.
        crop_ratio (`tuple[float, float]`, *optional*, defaults to 3/4 and 4/3):
            Smallest and largest width / height of a crop. For a student that sees any shape (NaFlex) they are shares
            of the image's own width / height.
        flip (`float`, *optional*, defaults to `0.0`):
            Probability of a mirrored crop. It is 0 by default because captions say "left" and images show writing.
        color_jitter (`Sequence[float]`, *optional*):
            Largest changes of brightness, contrast, saturation and hue, in this order. A change x of the first three
            is at least 0. It gives a factor between 1 - x and 1 + x. The change of the hue is 0 to 0.5, in turns. The
            default changes nothing, because captions name colours.
        color_jitter_prob (`float`, *optional*, defaults to `0.8`):
            Probability that an image's colours change by `color_jitter`.
        gray_scale_prob (`float`, *optional*, defaults to `0.0`):
            Probability that an image loses its colours.
        drop_alpha (`float`, *optional*, defaults to `0.5`):
            Probability that a crop shows the colours below transparent pixels. The others lie on white. Stock
            pipelines drop transparency, and evaluation here lays it on white: a student must know both.

    Raises:
        ValueError: if a range or probability is out of bounds.
    """

    crop_scale: Sequence[float] = (0.9, 1.0)
    crop_ratio: Sequence[float] = (3 / 4, 4 / 3)
    flip: float = 0.0
    color_jitter: Sequence[float] | None = None
    color_jitter_prob: float = 0.8
    gray_scale_prob: float = 0.0
    drop_alpha: float = 0.5

    def __post_init__(self):
        _check_range("crop_scale", self.crop_scale, upper=1.0)
        _check_range("crop_ratio", self.crop_ratio, upper=math.inf)
        for name in ("flip", "color_jitter_prob", "gray_scale_prob", "drop_alpha"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(
                    f"`{name}={getattr(self, name)}` is not a probability. It must lie between 0 and 1. "
                    f"Pass for example `{name}=0.5`."
                )
        jitter = self.color_jitter
        if jitter is not None and not (len(jitter) == 4 and min(jitter) >= 0 and jitter[3] <= 0.5):
            raise ValueError(
                f"`color_jitter={jitter}` is not a change of colours. It must be four numbers of at least 0, for "
                "brightness, contrast, saturation and hue, the last at most 0.5. "
                "Pass for example `color_jitter=(0.32, 0.32, 0.32, 0.08)`."
            )

    @property
    def colors_change(self) -> bool:
        return self.color_jitter is not None or self.gray_scale_prob > 0

    def min_side(self, side: int) -> int:
        """Return the shortest side, in pixels, that an image needs for a model that sees `side` pixels.

        The smallest crop then still has as many pixels as the model sees.
        """
        return math.ceil(side / math.sqrt(self.crop_scale[0]))

    def draw(self, size: tuple[int, int], uniforms: Sequence[float], keep_shape: bool = False) -> Crop:
        """
        Draw the crop of one image.

        Args:
            size (`tuple[int, int]`): Width and height of the image, in pixels.
            uniforms (`Sequence[float]`): Random numbers of the row, see [`row_uniforms`].
            keep_shape (`bool`, *optional*, defaults to `False`): Take `crop_ratio` as shares of the image's own ratio.
        """
        own = size[0] / size[1] if keep_shape else 1.0
        box = random_crop_box(*size, self.crop_scale, [ratio * own for ratio in self.crop_ratio], uniforms)
        colors = self._colors(uniforms[COLORS:BACKGROUND]) if self.colors_change else UNCHANGED
        return Crop(box, uniforms[FLIP] < self.flip, colors, uniforms[BACKGROUND] < self.drop_alpha)

    def _colors(self, uniforms: Sequence[float]) -> Colors:
        jitter, *numbers, gray = uniforms
        factors = UNCHANGED[:4]
        if self.color_jitter is not None and jitter < self.color_jitter_prob:
            low = [max(0.0, 1 - x) for x in self.color_jitter[:3]] + [-self.color_jitter[3]]
            high = [1 + x for x in self.color_jitter[:3]] + [self.color_jitter[3]]
            factors = (a + (b - a) * u for a, b, u in zip(low, high, numbers, strict=True))
        # A teacher cache stores colours as float32. This precision makes a crop from the cache the same.
        return tuple(float(np.float32(x)) for x in (*factors, gray < self.gray_scale_prob))


def random_crop_box(width: int, height: int, scale: Sequence, ratio: Sequence, uniforms: Sequence[float]) -> Box:
    """Draw one crop as `torchvision.transforms.RandomResizedCrop` does, from given random numbers.

    Args:
        width, height (`int`): Width and height of the image, in pixels.
        scale (`tuple[float, float]`): Smallest and largest share of the area to keep.
        ratio (`tuple[float, float]`): Smallest and largest width / height of the crop (log-uniform).
        uniforms (`Sequence[float]`): `UNIFORMS_PER_CROP` random numbers in [0, 1).

    Returns:
        `(left, top, right, bottom)` in pixels.
    """
    log_low, log_high = math.log(ratio[0]), math.log(ratio[1])
    for i in range(0, UNIFORMS_PER_CROP, 4):
        area = width * height * (scale[0] + (scale[1] - scale[0]) * uniforms[i])
        aspect = math.exp(log_low + (log_high - log_low) * uniforms[i + 1])
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(uniforms[i + 2] * (width - w + 1)), int(uniforms[i + 3] * (height - h + 1))
            return left, top, left + w, top + h
    # Ten tries failed, for example with a very long image. The result is the largest centred crop of an allowed shape.
    w, h = width, height
    if width < ratio[0] * height:
        h = round(width / ratio[0])
    elif width > ratio[1] * height:
        w = round(height * ratio[1])
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def recolored(image: Image.Image, colors: Colors) -> Image.Image:
    """Change the colours of an image by torchvision's functions for Pillow images, in the order of [`Crop`]."""
    brightness, contrast, saturation, hue, gray = colors
    changes = ((F.adjust_brightness, brightness), (F.adjust_contrast, contrast), (F.adjust_saturation, saturation))
    for change, factor in changes:
        image = change(image, factor) if factor != 1 else image
    image = F.adjust_hue(image, hue) if hue else image
    return F.rgb_to_grayscale(image, 3) if gray else image


def _check_range(name: str, value: Sequence[float], upper: float) -> None:
    low, high = value if len(value) == 2 else (math.nan, math.nan)
    if not 0 < low <= high <= upper:
        raise ValueError(
            f"`{name}={value}` is not a range. It must be two numbers, the smaller one first, above 0"
            f"{'' if upper == math.inf else f' and at most {upper:g}'}. Pass for example `{name}=(0.9, 1.0)`."
        )
