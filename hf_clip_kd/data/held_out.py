"""A fixed share of the images of a data set, kept apart by the content of each file."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset

from ..recipe_io.results import unshared

logger = logging.getLogger(__name__)

MAX_BROKEN_SHARE = 0.05


def one_row_per_image(
    dataset: Dataset, *, first: Sequence[str] = (), lists: Sequence[str] = (), distinct: Sequence[str] = ()
) -> Dataset:
    """
    Join the rows that show the same file, so that each image is one row.

    Rows without an image are left out and counted in the log.

    Args:
        dataset ([`~datasets.Dataset`]): Rows with an undecoded column `image`.
        first (`Sequence[str]`): Columns that keep the value of the image's first row.
        lists (`Sequence[str]`): Columns that become lists, with the values of all rows of the image.
        distinct (`Sequence[str]`):
            Columns of strings, or of lists of strings, that become one list of the different strings of an image.

    Returns:
        [`~datasets.Dataset`]: columns `image`, `key` (the SHA-256 of the file) and those named, in the order of the
        images' first rows.

    Raises:
        ValueError: More than 5 % of the rows have no image.
    """
    keys = [_key(image) for image in dataset["image"]]
    lost = keys.count(None)
    if lost > MAX_BROKEN_SHARE * len(keys):
        raise ValueError(
            f"{lost} of {len(keys)} rows have no image: the cell is empty or the file is missing. At most "
            f"{MAX_BROKEN_SHARE:.0%} may lack it. Check the image column and the paths in it."
        )
    if lost:
        logger.warning("Left out: %d of %d rows, which have no image.", lost, len(keys))
    rows: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        if key is not None:
            rows.setdefault(key, []).append(row)
    columns = {name: dataset[name][:] for name in (*lists, *distinct)}
    joined = dataset.select([own[0] for own in rows.values()]).select_columns(["image", *first]).flatten_indices()
    joined = joined.add_column("key", list(rows))
    for name, values in columns.items():
        found = [[values[row] for row in own] for own in rows.values()]
        joined = joined.add_column(name, [_different(cells) for cells in found] if name in distinct else found)
    return joined


def hold_out(dataset: Dataset, share: float) -> tuple[Dataset, Dataset]:
    """
    Split the rows of [`one_row_per_image`] by the content of the image.

    The side of an image depends on its file and the share alone. It stays when rows are added or come in another
    order. It is the same in every data set that shows the file.

    Args:
        dataset ([`~datasets.Dataset`]): Rows with a column `key`.
        share (`float`): Share of the images to hold out, between 0 and 1.

    Returns:
        `tuple[Dataset, Dataset]`: the rows to learn from, and those that are held out.
    """
    held_out = [int(key[:13], 16) / 16**13 < share for key in dataset["key"]]
    sides = ([row for row, held in enumerate(held_out) if held == side] for side in (False, True))
    learned, kept = (dataset.select(rows) for rows in sides)
    return learned, kept


def caption_rows(dataset: Dataset, text_column: str, label_column: str | None = None) -> Dataset:
    """
    Return one row per image with captions.

    Args:
        dataset ([`~datasets.Dataset`]): From [`load_image_text`].
        text_column (`str`): Column that it read as the captions.
        label_column (`str`, *optional*): Column of classes. Default: `text_column`, if it holds class labels.

    Returns:
        [`~datasets.Dataset`]: columns `image`, `key`, `text` (a list), and `label` (a `ClassLabel`) if there are
        classes.

    Raises:
        ValueError: There is no such column, or too many rows have no image.
    """
    dataset = _readable(dataset)
    if label_column is None and isinstance(dataset.features.get(text_column), ClassLabel):
        label_column = text_column
    if label_column is not None:
        source = label_column
        if label_column == text_column and label_column not in dataset.column_names:
            source = "text"  # The loader has renamed it.
        if source not in dataset.column_names:
            raise ValueError(
                f"`label_column={label_column!r}` is not a column of the data. The columns are "
                f"{dataset.column_names}. Correct it, or leave it out."
            )
        labels = dataset.select_columns([source]).rename_columns({source: "label"} if source != "label" else {})
        labels = labels if isinstance(labels.features["label"], ClassLabel) else labels.class_encode_column("label")
        dataset = dataset.select_columns(["image", "text"]).add_column(
            "label", labels["label"][:], feature=labels.features["label"]
        )
    rows = one_row_per_image(dataset, first=[] if label_column is None else ["label"], distinct=["text"])
    return rows.select([row for row, captions in enumerate(rows["text"]) if captions])


def question_rows(dataset: Dataset, answers: str | None = None, question_type: str | None = None) -> Dataset:
    """
    Return one row per image with questions.

    Args:
        dataset ([`~datasets.Dataset`]): From [`load_image_text`], which read the questions as `text`.
        answers (`str`, *optional*): Column of the accepted answer, or of a list of them. Default: `answers`.
        question_type (`str`, *optional*): Column of the type. Default: `question_type` if it is there, else no types.

    Returns:
        [`~datasets.Dataset`]: columns `image`, `key`, and lists `text` (questions), `answers` and `question_type`.

    Raises:
        ValueError: There is no such column, or too many rows have no image.
    """
    dataset = _readable(dataset)
    for name, column in (("answers_column", answers or "answers"), ("question_type_column", question_type)):
        if column is not None and column not in dataset.column_names:
            raise ValueError(
                f"`questions`: `{name}` is {column!r}, which is not a column of the data. The columns are "
                f"{dataset.column_names}. Name the right one, for example `{name}: {dataset.column_names[-1]}`."
            )
    kind = question_type or "question_type"
    kinds = [str(value) for value in dataset[kind]] if kind in dataset.column_names else ["all"] * len(dataset)
    cells = [value if isinstance(value, list) else [value] for value in dataset[answers or "answers"]]
    table = dataset.select_columns(["image", "text"])
    table = table.add_column("answers", [[str(answer) for answer in accepted] for accepted in cells])
    return one_row_per_image(table.add_column("question_type", kinds), lists=["text", "answers", "question_type"])


def write_parts(parts: Mapping[str, Dataset], folder: Path) -> Path:
    """
    Write data sets into a subfolder that is named by their content, all or none.

    Args:
        parts (`Mapping[str, Dataset]`): Name to rows with the columns `image` and `key`.
        folder (`Path`): Folder for any number of such subfolders.

    Returns:
        `Path`: The subfolder, with one data set of each name. It is not written again if it is there.
    """
    told = [[name, part.remove_columns("image")[:]] for name, part in parts.items()]
    whole = folder / hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]
    if not whole.is_dir():
        torn = unshared(whole)
        for name, part in parts.items():
            part.remove_columns("key").save_to_disk(torn / name)
        try:
            torn.rename(whole)
        except OSError:  # Another run has just written it.
            shutil.rmtree(torn)
    return whole


def _readable(dataset: Dataset) -> Dataset:
    """Leave out the rows that the loader could not read."""
    if "__error__" not in dataset.column_names:
        return dataset
    return dataset.select([row for row, error in enumerate(dataset["__error__"]) if error is None])


def _key(image: dict[str, Any] | None) -> str | None:
    """Return the SHA-256 of an undecoded image's file."""
    data = None if image is None else image["bytes"]
    if data is None and image is not None and image["path"] and Path(image["path"]).is_file():
        data = Path(image["path"]).read_bytes()
    return hashlib.sha256(data).hexdigest() if data else None


def _different(cells: list[str | list[str] | None]) -> list[str]:
    """Return the different strings of an image in the order of its rows."""
    texts = [text for cell in cells for text in ([cell] if isinstance(cell, str) else cell or [])]
    return list(dict.fromkeys(text for text in texts if text))
