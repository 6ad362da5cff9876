"""Heat maps of a text on a picture: the nearness of each patch to the text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..encode import encode_texts, readable
from .layers import check_patches, read_patches, unwrapped
from .reading import pixels_of

# Longest side of a map, in patches. A finer grid is averaged.
SIDE = 16


@dataclass(frozen=True)
class HeatMap:
    """Nearness of each patch of a picture to a text."""

    values: np.ndarray = field(metadata={"help": "`(side, side)` of bytes, row by row: 0 at `low`, 255 at `high`."})
    low: float = field(metadata={"help": "Smallest value of the map."})
    high: float = field(metadata={"help": "Largest value of the map."})


@torch.inference_mode()
def heat_maps(
    model: nn.Module, processor, images: Sequence, asked: Sequence[tuple[int, str]], *, batch_size: int = 32
) -> list[HeatMap | None]:
    """
    Show where on a picture a dual encoder sees a text.

    A value is `cos(patch, text)` less its mean over all different texts, as in [`align_patches`]. Of a text that is
    alone nothing is taken off. Each picture is squeezed to a square first, so a map covers the whole of it. A LLaVA
    of this package sees its pictures so, too.

    Args:
        model (`nn.Module`):
            Dual encoder or teacher in eval mode, see [`~hf_clip_kd.models.encode_patches`].
        processor:
            Its processor.
        images (sequence):
            Pictures as [`~hf_clip_kd.decode_image`] takes them.
        asked (sequence of `tuple[int, str]`):
            Position of a picture in `images`, and a text. A picture may have several texts.
        batch_size (`int`, *optional*, defaults to 32):
            Pictures or texts per forward pass.

    Returns:
        `list[HeatMap | None]`: a map for each entry of `asked`; `None` if the picture cannot be decoded.

    Raises:
        ValueError: The model has no patches in the space of its texts, or no square grid of them.
        ValueError: More than 5 % of the pictures are broken.
    """
    check_patches(model)
    distinct = list(dict.fromkeys(text for _, text in asked))
    texts = encode_texts(model, processor, distinct, batch_size=batch_size, description="texts of heat maps")
    if len(distinct) > 1:
        texts = texts - texts.mean(dim=0)
    place = {text: i for i, text in enumerate(distinct)}
    of_image: dict[int, list[int]] = {}
    for i, (image, _) in enumerate(asked):
        of_image.setdefault(image, []).append(i)
    found: list[HeatMap | None] = [None] * len(asked)
    for positions, pictures in readable(images, batch_size=batch_size, description="heat maps"):
        squares = [picture.resize((max(picture.size),) * 2) for picture in pictures]
        patches = F.normalize(read_patches(model, pixels_of(processor, squares)).float(), dim=-1).cpu()
        for position, rows in zip(positions, patches, strict=True):
            for i in of_image.get(position, ()):
                found[i] = _map(_grid(rows @ texts[place[asked[i][1]]], model))
    return found


def _grid(values: Tensor, model: nn.Module) -> Tensor:
    """Return the values of patches `(P,)` on their square grid, of at most 16 patches a side."""
    side = math.isqrt(len(values))
    if side**2 != len(values):
        raise ValueError(
            f"{type(unwrapped(model)).__name__} sees a square picture as {len(values)} patches, which are no square. "
            "A heat map needs a square grid. Leave this model out of the heat maps."
        )
    grid = values.view(side, side)
    return grid if side <= SIDE else F.adaptive_avg_pool2d(grid[None], SIDE)[0]


def _map(grid: Tensor) -> HeatMap:
    low, high = float(grid.min()), float(grid.max())
    scaled = (grid - low) * (255 / (high - low)) if high > low else torch.zeros_like(grid)
    return HeatMap(scaled.round().to(torch.uint8).numpy(), low, high)
