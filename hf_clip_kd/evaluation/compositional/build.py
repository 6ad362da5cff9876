"""Compositional evaluator that a block of a recipe's `evaluation` describes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from datasets import Dataset

from .benchmarks import COMPOSITIONAL
from .benchmarks.shapes import read_shapes
from .cases import first_of_each
from .evaluator import CompositionalEvaluator

_SHAPES = ("split", "seed", "image_size")
_FILES = ("annotations", "image_folder")
OPTIONS = ("dataset_name", *_SHAPES, *_FILES, "max_samples", "batch_size")
_EXAMPLES = {
    "shapes": "`compositional: {dataset_name: shapes, split: compositional}`",
    "files": "`sugarcrepe: {task: compositional, dataset_name: sugarcrepe, annotations: data, image_folder: val2017}`",
}


def build_compositional(name: str, options: dict[str, Any], load: Callable[..., Dataset]) -> CompositionalEvaluator:
    """
    Read the cases of a benchmark.

    Args:
        name (`str`): Name of the block.
        options (`dict[str, Any]`):
            `dataset_name`, a key of `COMPOSITIONAL`. For `shapes` the arguments of [`load_shapes`], for others
            `annotations` and `image_folder`. `max_samples` is the number of cases, taken in turns from the categories,
            or of images of `shapes`.
        load (`Callable`): [`load_image_text`] or its like, for `shapes`.

    Raises:
        ValueError: The benchmark or an argument is unknown or missing, or a file is wrong.
    """
    where, given = f"`evaluation`, {name!r}", dict(options)
    key, batch_size, most = given.pop("dataset_name"), given.pop("batch_size", 128), given.pop("max_samples", None)
    if key not in COMPOSITIONAL:
        raise ValueError(
            f"{where}: `dataset_name: {key!r}` is no compositional benchmark. There are {', '.join(COMPOSITIONAL)}. "
            f"Write e.g. {_EXAMPLES['files']}."
        )
    if most is not None and (not isinstance(most, int) or most < 1):
        raise ValueError(
            f"{where}: `max_samples: {most!r}` is no number of cases. It must be 1 or more. Write `max_samples: 100`, "
            "or leave it out for all."
        )
    benchmark = COMPOSITIONAL[key]
    if key != "shapes":
        try:
            cases = first_of_each(benchmark.load(given), most)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        return CompositionalEvaluator(cases, benchmark, batch_size=batch_size, name=name)
    wrong = [option for option in given if option not in _SHAPES]
    if wrong or given.get("split") != "compositional":
        asked = f"`{wrong[0]}`" if wrong else f"`split: {given.get('split', 'test')}`"
        raise ValueError(
            f"{where}: {asked} asks for what `shapes` does not have. Its pairs are the split `compositional`, with "
            f"{', '.join(_SHAPES[1:])} beside it. Write {_EXAMPLES['shapes']}."
        )
    cases = read_shapes(load("shapes", **given, max_samples=most))
    return CompositionalEvaluator(cases, benchmark, batch_size=batch_size, name=name)
