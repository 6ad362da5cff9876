"""Evaluators that the `evaluation` of a recipe describes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from datasets import ClassLabel, Dataset

from ..data.shapes import QUESTION_TYPES
from .compositional import OPTIONS as COMPOSITIONAL_OPTIONS
from .compositional import build_compositional
from .encode import MAX_BROKEN_SHARE
from .evaluator import Evaluator, SequentialEvaluator
from .held_out import HeldOutEvaluator
from .multilingual import OPTIONS as MULTILINGUAL_OPTIONS
from .multilingual import build_multilingual
from .prompts import load_class_names
from .representation import RepresentationEvaluator, object_keypoints, object_masks
from .retrieval import RetrievalEvaluator
from .zero_shot import ZeroShotClassificationEvaluator

logger = logging.getLogger(__name__)

PROBE_QUESTIONS = 24_000  # Six about each of 4,000 images: fewer make the question probe tell towers apart less well.
_ERROR = "__error__"  # Column of rows of tars that names their fault.

_DATA_OPTIONS = (
    "dataset_name", "data_dir", "data_files", "split", "image_column", "max_samples", "name", "revision",
    "cache_dir", "seed", "image_size",
)  # fmt: skip
# Arguments of a representation, and their columns if the recipe names none.
_REPRESENTATION_COLUMNS = {
    "label_column": "label",
    "text_column": "text",
    "mask_column": "mask",
    "question_column": "question",
    "answers_column": "answers",
    "question_type_column": "question_type",
    "keypoint_column": "keypoints",
}
# Data of a held-out task beside its own: the images for the fit, and those with questions.
_HELD_OUT_DATA = ("others", "held_out_questions", "other_questions")
_OPTIONS = {
    "zero_shot": (*_DATA_OPTIONS, "label_column", "class_names", "templates", "batch_size"),
    "retrieval": (*_DATA_OPTIONS, "text_column", "caption_lines", "batch_size"),
    "representation": (
        *_DATA_OPTIONS, "vqa", "teacher", "layer", "templates", "batch_size", "gromov_wasserstein", "language_model",
        *_REPRESENTATION_COLUMNS,
    ),
    "held_out": (*_DATA_OPTIONS, *_HELD_OUT_DATA, "templates", "layer", "batch_size"),
    "compositional": COMPOSITIONAL_OPTIONS,
    "multilingual_retrieval": MULTILINGUAL_OPTIONS,
}  # fmt: skip
_EXAMPLE = "`evaluation: {zero_shot: {dataset_name: shapes, split: zero_shot}}`"


def build_evaluator(evaluation: dict[str, dict], load: Callable[..., Dataset]) -> SequentialEvaluator:
    """
    Build the evaluators that a recipe asks for, each with the name it has there.

    Args:
        evaluation (`dict[str, dict]`):
            Maps a name to its arguments. The names of tasks are `zero_shot`, `retrieval`, `representation`,
            `held_out`, `compositional` (see [`build_compositional`]) and `multilingual_retrieval` (see
            [`build_multilingual`]). Another name, for a second data set, has its task as `task`. The rest are
            arguments of the data set and of the evaluator. Those of the data set are `dataset_name`, `split`, by
            default `"test"`, `data_dir`, `data_files`, `image_column`, `max_samples` and so on. Those of the
            evaluator are `label_column`, `class_names` and `templates`, or `text_column`, and `batch_size`. With
            `caption_lines`, each line of a text is a caption. A representation has `teacher`, `layer`, `templates`,
            `gromov_wasserstein`, `language_model` and its columns, by default those of [`load_shapes`] that are there.
            Questions of `shapes` are 24,000 by default, about 4,000 images.
        load (`Callable`):
            [`load_image_text`] or its like: takes the arguments of the data set and gives columns `image` and `text`.

    Returns:
        [`SequentialEvaluator`] whose `evaluators` stand in the order of `evaluation`.

    Raises:
        ValueError: An argument is unknown or missing, or the data cannot be used.
    """
    if not evaluation:
        raise ValueError(
            f"`evaluation={evaluation}` asks for nothing. At least one of {list(_OPTIONS)} is needed. Write e.g. "
            f"{_EXAMPLE}."
        )
    return SequentialEvaluator([_build(name, options, load) for name, options in evaluation.items()])


def _build(name: str, options: Any, load: Callable[..., Dataset]) -> Evaluator:
    if not isinstance(options, dict) or "dataset_name" not in options:
        raise ValueError(
            f"`evaluation`, {name!r}: {options!r} names no data. It must be a mapping with `dataset_name`. Write e.g. "
            f"{_EXAMPLE}."
        )
    options = dict(options)
    task = options.pop("task", name)
    if task not in _OPTIONS:
        raise ValueError(
            f"`evaluation`, {name!r}: {task!r} is no task. Tasks are {list(_OPTIONS)}. Use one of them as the name, "
            f"or say which it is: `{name}: {{task: zero_shot, ...}}`."
        )
    for option in options:
        if option not in _OPTIONS[task]:
            close = get_close_matches(option, _OPTIONS[task], n=1)
            hint = f"Did you mean `{close[0]}`?" if close else "Delete it."
            raise ValueError(
                f"`evaluation`, {name!r}: {option!r} is no argument of the task {task!r}. The arguments are "
                f"{', '.join(_OPTIONS[task])}. {hint}"
            )
    batch_size = options.get("batch_size", 1)
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
        raise ValueError(
            f"`evaluation`, {name!r}: `batch_size: {batch_size!r}` is no number of images. It must be 1 or more. "
            "Write `batch_size: 128`, or leave it out."
        )
    if task == "compositional":
        return build_compositional(name, options, load)
    if task == "multilingual_retrieval":
        return build_multilingual(name, options)
    data_options = (*_DATA_OPTIONS, "vqa")
    data = {"split": "test"} | {key: value for key, value in options.items() if key in data_options}
    rest = {key: value for key, value in options.items() if key not in data_options}
    if data["dataset_name"] == "shapes" and task != "retrieval":
        rest.setdefault("templates", "shapes")
    if task == "retrieval":
        dataset = _load(name, load, data, rest.pop("text_column", "text"))
        if rest.pop("caption_lines", False):
            dataset = _with_caption_lines(name, dataset)
        return RetrievalEvaluator(dataset, name=name, **rest)
    if task == "representation":
        return _representation(name, load, data, rest)
    if task == "held_out":
        return _held_out(name, load, data, rest)
    label_column = rest.pop("label_column", "label")
    dataset = _load(name, load, data, label_column)
    class_names = rest.pop("class_names", None)
    if label_column not in dataset.column_names:
        # The loader turns labels that are no `ClassLabel` into text.
        class_names = class_names and load_class_names(class_names)
        dataset = dataset.add_column(label_column, _labels_from_text(dataset["text"][:], class_names, label_column))
    return ZeroShotClassificationEvaluator(dataset, class_names, name=name, label_column=label_column, **rest)


def _held_out(name: str, load: Callable[..., Dataset], data: dict, rest: dict) -> HeldOutEvaluator:
    parts = {}
    for part in _HELD_OUT_DATA:
        if (folder := rest.pop(part, None)) is not None:
            parts[part] = _load(name, load, data | {"dataset_name": folder}, "text")
    return HeldOutEvaluator(_load(name, load, data, "text"), name=name, **parts, **rest)


def _representation(name: str, load: Callable[..., Dataset], data: dict, rest: dict) -> RepresentationEvaluator:
    named = {argument: rest.pop(argument) for argument in _REPRESENTATION_COLUMNS if argument in rest}
    # The loader wants captions, and makes them of the labels or the questions where they are missing.
    source = next((named[key] for key in ("text_column", "label_column", "question_column") if key in named), "text")
    shapes = data["dataset_name"] == "shapes"
    if shapes and data.get("vqa"):
        data.setdefault("max_samples", PROBE_QUESTIONS)
    dataset = _load(name, load, data, source)
    if shapes:
        dataset = _with_objects(dataset, data["split"], data.get("seed", 0))
    there = dataset.column_names
    columns = named or {key: column for key, column in _REPRESENTATION_COLUMNS.items() if column in there}
    moved = {key: "text" for key, column in columns.items() if column == source and column not in there}
    return RepresentationEvaluator(dataset, name=name, **columns | moved, **rest)


def _with_objects(dataset: Dataset, split: str, seed: int) -> Dataset:
    """Add the places of the objects to rows of `shapes`, and masks if there is a single object."""
    per_image = len(QUESTION_TYPES) if "question" in dataset.column_names else 1
    places = object_keypoints(split, -(-len(dataset) // per_image), seed)
    dataset = dataset.add_column("keypoints", [places[row // per_image] for row in range(len(dataset))])
    if split != "zero_shot":
        return dataset
    return dataset.add_column("mask", object_masks(split, len(dataset), seed))


def _load(name: str, load: Callable[..., Dataset], data: dict, text_column: str) -> Dataset:
    try:
        dataset = load(**data, text_column=text_column)
    except ValueError as error:
        raise ValueError(f"`evaluation`, {name!r} (which reads column {text_column!r} as text): {error}") from error
    return _without_faults(name, dataset) if _ERROR in dataset.column_names else dataset


def _without_faults(name: str, dataset: Dataset) -> Dataset:
    """Keep the rows of tars that could be read, and name the others in the log."""
    errors = {row: error for row, error in enumerate(dataset[_ERROR]) if error is not None}
    return _without_rows(name, dataset, errors).remove_columns(_ERROR)


def _with_caption_lines(name: str, dataset: Dataset) -> Dataset:
    """Return the rows with each line of their text as a caption; rows without any are broken."""
    lines = [[line for line in (text or "").splitlines() if line.strip()] for text in dataset["text"][:]]
    dataset = dataset.remove_columns("text").add_column("text", lines)
    return _without_rows(name, dataset, {row: "it has no caption" for row, own in enumerate(lines) if not own})


def _without_rows(name: str, dataset: Dataset, errors: dict[int, str]) -> Dataset:
    """Leave out broken rows and name them in the log; too many are an error."""
    keys = dataset["__key__"] if "__key__" in dataset.column_names else range(len(dataset))
    for row, error in errors.items():
        logger.warning("Left out of the evaluation %r, broken row %s: %s", name, keys[row], error)
    if len(errors) > MAX_BROKEN_SHARE * len(dataset):
        raise ValueError(
            f"`evaluation`, {name!r}: {len(errors)} of {len(dataset)} rows are broken, the first "
            f"{next(iter(errors.values()))}. At most {MAX_BROKEN_SHARE:.0%} may be. Repair the files, or leave the "
            "broken ones out of `data_files`."
        )
    return dataset.select([row for row in range(len(dataset)) if row not in errors]) if errors else dataset


def _labels_from_text(texts: list[str], class_names: list[str] | None, label_column: str) -> list[int]:
    """Return class indices of class names, or of indices that were read as text."""
    if class_names is None:
        raise ValueError(
            f"`label_column={label_column!r}` holds plain values such as {texts[0]!r} and brings no class names. "
            f"Names are needed, in the order of the labels (or a {ClassLabel.__name__} column). Pass `class_names`: a "
            "JSON file, a list, or one that `hf_clip_kd.evaluation.list_class_names()` knows."
        )
    position = {class_name: i for i, class_name in enumerate(class_names)}
    # A name may be a number, too. WebDataset's `cls` is always the position.
    if label_column != "cls" and all(text in position for text in texts):
        return [position[text] for text in texts]
    for text in texts:
        if text is None or not text.isdigit():
            raise ValueError(
                f"`label_column={label_column!r}` holds {text!r}, which is no class name. Labels must be among the "
                f"{len(class_names)} `class_names` ({', '.join(class_names[:3])}, ...) or be their positions. Pass "
                "the right `class_names` or `label_column`."
            )
    return [int(text) for text in texts]
