"""The images of a data set, each once, and what its rows say about them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from datasets import ClassLabel, Dataset

from ...data.class_names import readable
from ..prompts import load_templates
from .attentive_probe import Question
from .c_score import Keypoint


def unique_images(dataset: Dataset, image_column: str) -> tuple[list[int], list[int]]:
    """
    Return the first row of each image, in a fixed random order, and each row's image as a position there.

    Batches and the halves of a probe must not depend on the order of the rows, so it is random.
    """
    first: dict[tuple, int] = {}
    keys = []
    for row, image in enumerate(dataset[image_column]):
        image = image or {"path": None, "bytes": None}  # The encoder names an empty cell.
        keys.append((image["path"], hashlib.sha256(image["bytes"] or b"").digest()))
        first.setdefault(keys[-1], row)
    order = torch.randperm(len(first), generator=torch.Generator().manual_seed(0)).tolist()
    rows = [list(first.values())[i] for i in order]
    place = {keys[row]: i for i, row in enumerate(rows)}
    return rows, [place[key] for key in keys]


def texts_of(
    dataset: Dataset, label_column: str | None, text_column: str | None, templates: str | Path | Sequence[str]
) -> tuple[list[list[str]], list[int]]:
    """Return the prompts of every text, and for each row the position of its own text."""
    if label_column is not None and isinstance(dataset.features[label_column], ClassLabel):
        templates, names = load_templates(templates), dataset.features[label_column].names
        prompts = [[template.replace("{}", readable(name)) for template in templates] for name in names]
        return prompts, dataset[label_column][:]
    if text_column is None:
        return [], []
    captions = [text if isinstance(text, str) else text[0] for text in dataset[text_column]]
    position = {caption: i for i, caption in enumerate(dict.fromkeys(captions))}
    return [[caption] for caption in position], [position[caption] for caption in captions]


def questions_of(
    dataset: Dataset, image_of_row: Sequence[int], question_column: str, answers_column: str, type_column: str | None
) -> list[Question]:
    """Return the question of each row, about the image at a position."""
    kinds = dataset[type_column] if type_column is not None else ["all"] * len(dataset)
    asked = zip(image_of_row, dataset[question_column], dataset[answers_column], kinds, strict=True)
    return [Question.of(*cells) for cells in asked]


def keypoints_of(dataset: Dataset, keypoint_column: str) -> list[list[Keypoint]]:
    """Return the points of each row, or raise a `ValueError` if they are not written as [`Keypoint`] says."""
    found = []
    for row, points in enumerate(dataset[keypoint_column]):
        for point in points:
            if not isinstance(point, dict) or set(point) != set(Keypoint._fields) or not _inside(point):
                raise ValueError(
                    f"`keypoint_column={keypoint_column!r}` holds {point!r} in row {row}, which is no point. A point "
                    "is a mapping of `name`, `x` and `y`, and both places are between 0 and 1. Divide places in "
                    "pixels by the width and the height, or leave the column out."
                )
        found.append([Keypoint(**point) for point in points])
    return found


def _inside(point: dict) -> bool:
    return all(isinstance(point[axis], float | int) and 0 <= point[axis] <= 1 for axis in "xy")
