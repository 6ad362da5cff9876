"""Images in tiles: the stock LLaVA-NeXT, and its image processor for any tower."""

from __future__ import annotations

from typing import Any

from transformers import LlavaForConditionalGeneration, LlavaNextForConditionalGeneration, PreTrainedModel
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

from .image_tokens import ImageTokens, name_of

# Classes of a whole model, by `model_type`.
LLAVAS = {"llava": LlavaForConditionalGeneration, "llava_next": LlavaNextForConditionalGeneration}


def check_tiles(tiles: Any, image_mode: str | None = None) -> None:
    """
    Refuse what is no choice of tiles.

    Raises:
        ValueError: `tiles` is no list of rows and columns, or an image mode goes with it.
    """
    pairs = isinstance(tiles, list | tuple) and len(tiles) > 0
    if not pairs or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 and all(type(n) is int and n > 0 for n in pair)
        for pair in tiles
    ):
        raise ValueError(
            f"tiles={tiles!r} is no choice of tiles. It must be a list of pairs, rows and columns, of at least 1. "
            "Write for example build_llava(..., tiles=[[1, 2], [2, 1]]), or --tiles '[[1, 2], [2, 1]]'."
        )
    if image_mode not in (None, "square"):
        raise ValueError(
            f"image_mode={image_mode!r} with tiles, which keep the shape of an image. The mode must be 'square', for "
            "the view of the whole image. Leave image_mode out."
        )


def check_tile(image_tokens: ImageTokens, tower: PreTrainedModel) -> None:
    """
    Refuse a tower whose tokens do not fill the square of a tile.

    Raises:
        ValueError: There are register tokens beside the patches.
    """
    rows, columns = image_tokens.grid
    if image_tokens.count != rows * columns:
        raise ValueError(
            f"tiles with {name_of(tower)}, which gives {image_tokens.count - rows * columns} tokens besides its "
            f"{rows}x{columns} patches. A tile must be patches alone. Drop the others: "
            f"build_llava(..., image_tokens={rows * columns})."
        )


def tile_image_processor(image_processor: Any, tiles: list[list[int]]) -> LlavaNextImageProcessorPil:
    """
    Return LLaVA-NeXT's image processor with size, mean, standard deviation and filter of a LLaVA's.

    Each image is cut into the tiles of `tiles` that suit its shape best. A view of the whole image comes first.

    Args:
        image_processor: Result of [`square_image_processor`].
        tiles (`list[list[int]]`): Choices of rows and columns.
    """
    side = image_processor.crop_size["height"]
    return LlavaNextImageProcessorPil(
        size={"height": side, "width": side},
        crop_size={"height": side, "width": side},
        do_center_crop=False,
        image_grid_pinpoints=[[side * rows, side * columns] for rows, columns in tiles],
        resample=image_processor.resample,
        do_rescale=image_processor.do_rescale,
        rescale_factor=image_processor.rescale_factor,
        do_normalize=image_processor.do_normalize,
        image_mean=list(image_processor.image_mean),
        image_std=list(image_processor.image_std),
    )


def has_tiles(model: PreTrainedModel) -> bool:
    """Return whether a model is a LLaVA-NeXT."""
    return model.config.model_type == "llava_next"


__all__ = ["LLAVAS", "check_tile", "check_tiles", "has_tiles", "tile_image_processor"]
