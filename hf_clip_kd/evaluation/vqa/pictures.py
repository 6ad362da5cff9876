"""Pictures of stored answers, found by the names that `samples/*.jsonl` has for them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import PIL.Image

from .build import build_vqa_evaluator

logger = logging.getLogger(__name__)


def find_pictures(
    names: Iterable[str],
    evaluation: dict[str, Any],
    load_shapes: Callable[..., Iterable[dict]] | None = None,
) -> dict[str, str | PIL.Image.Image]:
    """
    Find the pictures of answers that were stored.

    A name that is the path of a file is that picture. Others are of pictures in memory: drawn ones, or those inside of
    a table. Their benchmark is read once more, as the result says that it was.

    Args:
        names (`Iterable[str]`): Names of pictures, as `image` in `samples/*.jsonl`.
        evaluation (`dict[str, Any]`): A single benchmark with its options, as [`build_vqa_evaluator`] takes it.
        load_shapes (`Callable`, *optional*): See [`build_vqa_evaluator`].

    Returns:
        `dict`: name -> path or picture. Names whose picture cannot be found are left out, and a warning says why.
    """
    names = dict.fromkeys(names)
    found: dict[str, str | PIL.Image.Image] = {name: name for name in names if Path(name).is_file()}
    missing = names.keys() - found.keys()
    if not missing:
        return found
    try:
        (entry,) = build_vqa_evaluator(evaluation, load_shapes).benchmarks
    except ValueError as error:
        logger.warning("%d pictures of %s are not found: %s", len(missing), ", ".join(evaluation), error)
        return found
    shown = {sample.picture: sample.image for sample in entry.samples if sample.image is not None}
    found |= {name: shown[name] for name in names if name in missing and name in shown}
    if len(found) < len(names):
        logger.warning(
            "%d of %d pictures of %s are not among its data.", len(names) - len(found), len(names), entry.name
        )
    return found
