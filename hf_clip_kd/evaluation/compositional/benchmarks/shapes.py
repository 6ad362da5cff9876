"""Pairs of the world `shapes`: colours or places swapped, or one attribute changed."""

from __future__ import annotations

from datasets import Dataset

from ..cases import Case
from .base import CaptionBenchmark


def read_shapes(dataset: Dataset) -> list[Case]:
    """
    Return the pairs of [`load_shapes`]`("compositional")`. The category is the change.

    Args:
        dataset ([`~datasets.Dataset`]): Rows with undecoded images. A last row without its partner is left out.
    """
    columns = (dataset[name][:] for name in ("image", "text", "pair", "change"))
    rows = list(zip(*columns, strict=True))
    cases = []
    for (image, text, pair, change), (other_image, other_text, other_pair, _) in zip(
        rows[::2], rows[1::2], strict=False
    ):
        assert pair == other_pair
        cases.append(Case((image, other_image), (text, other_text), change))
    return cases


BENCHMARK = CaptionBenchmark(
    "shapes",
    read_shapes,
    title="shapes",
    measures="colours or places of two objects swapped, or one attribute changed, for a second picture",
    files="none, the world is embedded; `split: compositional`",
    protocol="text, image and group score: all comparisons of a pair are right; a tie is wrong",
    scored_so_by="Winoground's scores",
    main_metric="text_acc",
    two_images=True,
)
