"""Images of conversations, one list a row. They are pictures in the data or paths to files."""

from __future__ import annotations

from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc

from .cells import Locate

IMAGES = datasets.List(datasets.Image(decode=False))


def image_lists(dataset: datasets.Dataset, locate: Locate, has_own_paths: bool) -> datasets.Dataset | None:
    """
    Return each row's images as a list, without opening any.

    Args:
        dataset (`datasets.Dataset`): Rows with a column `images` or `image` of images or paths, single ones or lists.
        locate (`Callable`): Makes a path absolute, or raises an error.
        has_own_paths (`bool`): Whether paths in a column of images stay as they are. Those in a column of texts never
            do.

    Returns:
        `datasets.Dataset` with the column `images` of [`IMAGES`]. `None` for data without a column of images.

    Raises:
        ValueError: if the column holds something else.
    """
    column = next((name for name in ("images", "image") if name in dataset.column_names), None)
    if column is None:
        return None
    dataset = dataset.select_columns([column])
    feature, lists = dataset.features[column], datasets.Features({"images": IMAGES})
    inner = getattr(feature, "feature", feature)
    if isinstance(inner, datasets.Value) and inner.dtype in ("string", "large_string"):

        def structs(values: str | list[str] | None) -> list[dict[str, Any]]:
            paths = [values] if isinstance(values, str) else values or []
            return [{"bytes": None, "path": locate(path)} for path in paths if path]

        return dataset.map(
            lambda batch: {"images": [structs(values) for values in batch[column]]},
            batched=True,
            remove_columns=[column],
            features=lists,
            desc="Reading images",
        )
    if not isinstance(inner, datasets.Image):
        raise ValueError(
            f"The column {column!r} holds {feature}. It must hold images or paths, single ones or lists. "
            "Rename the column of the images to `images` or `image`."
        )
    if inner is feature:
        images = _as_lists(dataset, column)
    else:
        images = dataset.cast(datasets.Features({column: IMAGES})).rename_columns({column: "images"})
    return images if has_own_paths else _located(images, locate)


def _as_lists(dataset: datasets.Dataset, column: str) -> datasets.Dataset:
    """Return single images as lists of one image or none. Their bytes are not decoded."""

    def wrapped(table: pa.Table) -> pa.Table:
        images = table[column].combine_chunks()
        ends = pc.cumulative_sum(pc.cast(pc.is_valid(images), pa.int32()))
        offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends])
        return pa.table({"images": pa.ListArray.from_arrays(offsets, images.drop_null())})

    undecoded = dataset.cast_column(column, datasets.Image(decode=False)).with_format("arrow")
    features = datasets.Features({"images": IMAGES})
    made = undecoded.map(wrapped, batched=True, remove_columns=[column], features=features, desc="Reading images")
    return made.with_format(None)


def _located(images: datasets.Dataset, locate: Locate) -> datasets.Dataset:
    """Locate images that are paths alone. Without any, the data stay as they are, perhaps gigabytes."""

    def located(cell: dict[str, Any] | None) -> dict[str, Any] | None:
        alone = cell is not None and cell["bytes"] is None and cell["path"]
        return {"bytes": None, "path": locate(cell["path"])} if alone else cell

    batches = images.with_format("arrow").iter(batch_size=1000)
    if not any(_has_paths(pc.list_flatten(batch["images"])) for batch in batches):
        return images
    return images.map(
        lambda batch: {"images": [row and [located(cell) for cell in row] for row in batch["images"]]},
        batched=True,
        features=images.features,
        desc="Finding images",
    )


def _has_paths(cells: pa.ChunkedArray) -> bool:
    alone = pc.and_(pc.is_null(pc.struct_field(cells, "bytes")), pc.is_valid(pc.struct_field(cells, "path")))
    return pc.any(alone).as_py() or False
