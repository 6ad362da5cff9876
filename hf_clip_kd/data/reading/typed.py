"""Image and text of data whose columns have one type for all rows, as Parquet and Arrow have them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import datasets

from ..class_names import readable
from .cells import CellError, Locate, caption_cell, image_cell, locator, short
from .columns import TEXT, UNDECODED
from .parts import Data, Part
from .targets import check_apart, sources_of, unknown_column, wrong_column

logger = logging.getLogger(__name__)

_STRINGS, _BYTES = ("string", "large_string"), ("binary", "large_binary")


def with_targets(part: Part, targets: dict[str, str], template: str) -> Data:
    """
    Return the rows of a part with the columns `image` (undecoded), `text` and perhaps `synthetic_text`.

    Args:
        part ([`Part`]): Rows of `datasets`.
        targets (`dict[str, str]`): Each of these columns, and the column that the user named for it.
        template (`str`): Caption of a class name.

    Raises:
        ValueError: if a column is missing or holds something else.
    """
    dataset = part.dataset
    sources = {target: _find_column(dataset, target, name) for target, name in targets.items()}
    check_apart({target: {name} for target, name in sources.items()}, list(dataset.features))
    # The images come first. A `map` over a stream decodes its images until the column says `decode=False`.
    dataset = _set_image(dataset, sources["image"], part.find_folder)
    # Generated captions come before the text, because setting the text may replace a column `text` of them.
    for target in sorted(targets.keys() - {"image"}):
        dataset = _set_text(dataset, target, sources[target], template)
    return dataset


def joined(parts: list[Data]) -> Data:
    """Chain the rows of parts. A column whose types do not agree becomes text, and is left out if it cannot."""
    if len(parts) == 1:
        return parts[0]
    for name in dict.fromkeys(name for part in parts for name in part.features):
        types = [part.features[name] for part in parts if name in part.features]
        if all(other == types[0] for other in types):
            continue
        several = any(isinstance(kind, datasets.List) for kind in types)
        common = datasets.List(TEXT) if several else TEXT
        for i, part in enumerate(parts):
            kind = part.features.get(name, common)
            if kind == common:
                continue
            if isinstance(getattr(kind, "feature", kind), (datasets.Value, datasets.ClassLabel)):
                convert = _as_list if several else _as_text
                parts[i] = _with_column(part, name, name, common, convert)
            else:
                logger.warning("Column %r holds %s in one file and %s in another. It is left out.", name, *types[:2])
                parts = [part.remove_columns(name) if name in part.features else part for part in parts]
                break
    return datasets.concatenate_datasets([_with_columns_of(part, parts) for part in parts])


def _with_columns_of(dataset: Data, others: list[Data]) -> Data:
    """Add the columns of other parts, empty. A stream fills them by itself."""
    if isinstance(dataset, datasets.Dataset):
        for name, feature in {name: kind for part in others for name, kind in part.features.items()}.items():
            if name not in dataset.features:
                dataset = dataset.add_column(name, [None] * len(dataset), feature=feature)
    return dataset


def _as_text(value: Any) -> str | list[str | None] | None:
    """Return one caption or several. Dates and decimals are written as Python writes them."""
    if isinstance(value, list):
        return [_as_text(item) for item in value]
    try:
        return caption_cell(value)
    except CellError:
        return str(value)


def _as_list(value: Any) -> list[str | None] | None:
    captions = _as_text(value)
    return captions if captions is None or isinstance(captions, list) else [captions]


def _find_column(dataset: Data, target: str, name: str) -> str:
    """Return the name of the source column to use. An unknown name raises an error with all names."""
    for candidate in sources_of(target, name):
        if _feature(dataset.features, candidate) is not None:
            if candidate != name:
                logger.info("The data has no column %r. Column %r is used as the %s.", name, candidate, target)
            return candidate
    classes = [n for n, feature in dataset.features.items() if isinstance(feature, datasets.ClassLabel)]
    raise unknown_column(target, name, list(dataset.features), classes)


def _feature(features: Any, name: str) -> Any:
    """Return the type of a column or of a field of a nested column, or `None` if there is none."""
    if isinstance(features, datasets.Json):
        return features
    if not isinstance(features, dict):
        return None
    head, _, tail = name.partition(".")
    return features[name] if name in features else _feature(features.get(head), tail) if tail else None


def _set_text(dataset: Data, target: str, column: str, template: str) -> Data:
    """Make the column `target` from strings, lists of strings, numbers, class labels or a nested field."""
    feature = _feature(dataset.features, column)
    inner = getattr(feature, "feature", feature)
    if not isinstance(inner, (datasets.Value, datasets.ClassLabel, datasets.Json)):
        raise wrong_column(target, column, feature, list(dataset.features))
    if column in dataset.features and isinstance(inner, datasets.Value):
        dataset, column = _rename(dataset, column, target), target
        if inner.dtype in _STRINGS:
            return dataset
    name = _class_caption(inner, template) if isinstance(inner, datasets.ClassLabel) else None
    head = column if column in dataset.features else column.partition(".")[0]
    path = column.split(".")[1:] if head != column else []

    def caption(value: Any) -> Any:
        for field in path:
            value = value.get(field) if isinstance(value, dict) else None
        if name is not None:
            return [name(item) for item in value] if isinstance(value, list) else name(value)
        if not isinstance(inner, datasets.Json):
            return _as_text(value)
        try:
            return caption_cell(value)
        except CellError:  # Objects are no captions.
            return None

    return _with_column(dataset, head, target, TEXT if inner is feature else datasets.List(TEXT), caption)


def _class_caption(feature: datasets.ClassLabel, template: str) -> Callable[[int | None], str | None]:
    names = [template.format(readable(name)) for name in feature.names]

    def caption(label: int | None) -> str | None:
        return names[label] if label is not None and 0 <= label < len(names) else None  # -1 is "no label".

    return caption


def _set_image(dataset: Data, column: str, find_folder: Callable[[], str | None]) -> Data:
    """Make the column `image`, undecoded, from images, paths, bytes, or structs of both."""
    feature = _feature(dataset.features, column)
    if isinstance(feature, datasets.Image) and column in dataset.features:
        # The cast comes before the new name, because renaming maps over a stream and would decode it.
        return _rename(dataset.cast_column(column, UNDECODED), column, "image")
    dtype = feature.dtype if isinstance(feature, datasets.Value) else None
    struct = isinstance(feature, dict) and {"bytes", "path"} >= set(feature)
    if column not in dataset.features or not (struct or dtype in _STRINGS + _BYTES):
        raise wrong_column("image", column, feature, list(dataset.features))
    dataset = _rename(dataset, column, "image")
    if dtype in _STRINGS:
        locate = locator(find_folder())
        return _with_column(dataset, "image", "image", UNDECODED, lambda value: _image(value, locate))
    if isinstance(dataset, datasets.Dataset):
        return dataset.cast_column("image", UNDECODED)
    # A cast does not convert a streamed column: its rows would stay bytes.
    return _with_column(dataset, "image", "image", UNDECODED, lambda value: _image(value, str))


def _image(value: Any, locate: Locate) -> dict[str, Any] | None:
    try:
        return image_cell(value, locate)
    except CellError:  # The collator finds no picture, and names the row by what stands there.
        return {"bytes": b"", "path": short(value)}


def _with_column(dataset: Data, source: str, target: str, feature: Any, function: Callable) -> Data:
    """Compute one column from another. The rest, perhaps gigabytes of images, is not rewritten."""

    def batch(values: list[Any]) -> dict[str, list[Any]]:
        return {target: [function(value) for value in values]}

    if isinstance(dataset, datasets.IterableDataset):
        features = datasets.Features({**dataset.features, target: feature})
        return dataset.map(batch, batched=True, input_columns=[source], features=features)
    values = dataset.select_columns([source]).map(
        batch,
        batched=True,
        input_columns=[source],
        remove_columns=[source],
        features=datasets.Features({target: feature}),
        desc=f"Reading {target}",
    )
    rest = dataset.remove_columns([target]) if target in dataset.column_names else dataset
    return datasets.concatenate_datasets([rest, values], axis=1) if rest.column_names else values


def _rename(dataset: Data, source: str, target: str) -> Data:
    if source == target:
        return dataset
    if target in dataset.features:
        dataset = dataset.remove_columns([target])
    return dataset.rename_column(source, target)
