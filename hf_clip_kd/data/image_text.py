"""Pairs of images and captions from anything `datasets` reads, as columns `image` (undecoded) and `text`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from typing import Any

import datasets
import numpy as np

from .reading.cached import source_of_cache
from .reading.sources import Data, base_folder, find_files, read

logger = logging.getLogger(__name__)

# What the common sources call their columns, tried in this order when the default name is not there.
_ALIASES = {
    "image": ("filepath", "jpg", "jpeg", "png", "webp", "img"),
    "text": ("title", "caption", "captions", "txt", "json.caption"),
}
_HOLDS = {"image": "images", "text": "captions", "synthetic_text": "generated captions"}


def load_image_text(
    dataset_name: str,
    *,
    data_dir: str | None = None,
    data_files: str | list[str] | None = None,
    split: str = "train",
    image_column: str = "image",
    text_column: str = "text",
    synthetic_text_column: str | None = None,
    label_template: str = "a photo of a {}.",
    max_samples: int | None = None,
    streaming: bool = False,
    **load_kwargs: Any,
) -> Data:
    """Load images with captions, whatever they are stored in.

    Images stay undecoded: a broken one is then met, named and skipped by [`CLIPDataCollator`] and does not end the run.

    Args:
        dataset_name (`str`):
            - an id on the Hub, such as `"pixparse/cc12m-wds"`;
            - `"imagefolder"` with `data_dir`: pictures with a `metadata.csv` or `.jsonl` (`file_name`, `text`), or in
              one folder per class (then pass `text_column="label"`);
            - a `.csv`, `.tsv`, `.parquet`, `.jsonl` or `.tar` file, a folder of them, or `"csv"`, `"tsv"`, `"parquet"`,
              `"json"`, `"webdataset"` with `data_files`. Paths of pictures start from the folder of their file;
            - a folder written by `Dataset.save_to_disk`;
            - a teacher cache, a folder or an id on the Hub: the images and captions that it was written for, from where its
              `recipe.yaml` says they are, with the columns named there;
            - `"shapes"`, the embedded world, which needs no files.
        data_dir (`str`, *optional*):
            Folder of the data, for `"imagefolder"` and the like.
        data_files (`str` or `list[str]`, *optional*):
            Files, with `*` for anything and `{00000..00331}` for numbered shards.
        split (`str`, *optional*, defaults to `"train"`):
            As in `datasets`: `"validation"`, `"train[:10%]"`. Files given by `data_files` are the split asked for.
        image_column, text_column (`str`, *optional*, default to `"image"` and `"text"`):
            Columns of the source; `"json.caption"` reaches into a nested one. Where the defaults are missing, the
            usual names are tried (`filepath` and `title` of open_clip, `jpg` and `txt` of WebDataset).
        synthetic_text_column (`str`, *optional*):
            Column of generated captions, a string or a list of strings each, for the losses that learn from them as
            well. `"shapes"` makes one on demand, `"synthetic_text"`.
        label_template (`str`, *optional*, defaults to `"a photo of a {}."`):
            Caption of a class name, when `text_column` holds class labels.
        max_samples (`int`, *optional*):
            Only the first so many rows.
        streaming (`bool`, *optional*, defaults to `False`):
            Read while training, without a copy in the cache of `datasets`: for sets that are larger than the disk.
        load_kwargs:
            For `datasets.load_dataset` (`name`, `revision`, `cache_dir`, `token`, ...), or `load_shapes`.

    Returns:
        `datasets.Dataset`, or `datasets.IterableDataset` when streaming: `image` is a `datasets.Image(decode=False)`,
        `text` a string or a list of strings (several captions of one image), likewise `synthetic_text` where it was
        asked for; other columns are kept. Without streaming, `__index__` is the row's number (it keys the row's crops, see
        [`~hf_clip_kd.data.transforms.keyed_random.row_uniforms`]); a stream gets it from [`Stream`].

    Raises:
        ValueError: if the data cannot be found or read, has no such split or columns, or is empty.
    """
    if dataset_name == "shapes":
        from .shapes import load_shapes

        if synthetic_text_column not in (None, "synthetic_text"):
            raise ValueError(
                f"`synthetic_text_column={synthetic_text_column!r}` is not a column of 'shapes'. Its generated captions "
                "are 'synthetic_text'. Pass `synthetic_text_column='synthetic_text'`."
            )
        dataset = load_shapes(split, size=max_samples, synthetic_text=synthetic_text_column is not None, **load_kwargs)
        return _numbered(dataset.cast_column("image", datasets.Image(decode=False)))
    source = source_of_cache(dataset_name, split, max_samples)
    if source is not None:
        return load_image_text(**source, streaming=streaming, **load_kwargs)
    files = find_files(dataset_name, data_files)
    dataset = read(
        dataset_name, data_dir=data_dir, files=files, split=split, streaming=streaming, load_kwargs=load_kwargs
    )
    image_column = _find_column(dataset, "image", image_column)
    text_column = _find_column(dataset, "text", text_column)
    if synthetic_text_column is not None:
        synthetic_text_column = _find_column(dataset, "synthetic_text", synthetic_text_column)
        if synthetic_text_column in (text_column, image_column):
            raise ValueError(
                f"`synthetic_text_column={synthetic_text_column!r}` is also the column of something else. It must be one of the "
                f"columns {list(dataset.features)} that is not yet taken. Pass it, or leave `synthetic_text_column` out."
            )
    if max_samples is not None:
        dataset = dataset.take(max_samples)
    # First the images: a streamed row is decoded by whatever is mapped over it, until it is told not to.
    dataset = _set_image(dataset, image_column, lambda: base_folder(dataset_name, data_dir, files))
    if synthetic_text_column is not None:
        # Before the text, which may replace a column named `text` that is this one.
        dataset = _set_text(dataset, "synthetic_text", synthetic_text_column, label_template)
    return _numbered(_set_text(dataset, "text", text_column, label_template))


def _numbered(dataset: Data) -> Data:
    """With the column `__index__`, by which a row's crops are found again whatever the order of reading."""
    if isinstance(dataset, datasets.IterableDataset):
        return dataset
    if "__index__" in dataset.column_names:
        dataset = dataset.remove_columns("__index__")
    return dataset.add_column("__index__", np.arange(len(dataset)))


def _find_column(dataset: Data, target: str, name: str) -> str:
    """The source column to use, or the error that lists them."""
    features = dataset.features or {}
    names = list(features)
    candidates = (name, *_ALIASES.get(target, ())) if name == target else (name,)
    for candidate in candidates:
        head, _, tail = candidate.partition(".")
        if candidate in names or (tail and isinstance(features.get(head), dict) and tail in features[head]):
            if candidate != name:
                logger.info("No column %r: taking %r as the %s.", name, candidate, target)
            return candidate
    classes = [n for n in names if isinstance(features[n], datasets.ClassLabel)]
    hint = f" For captions made of class names: `text_column={classes[0]!r}`." if classes and target == "text" else ""
    raise ValueError(
        f"`{target}_column={name!r}` is not a column of the dataset. Its columns are {names}. "
        f"Pass the one that holds the {_HOLDS[target]}: `{target}_column=...`.{hint}"
    )


def _set_text(dataset: Data, target: str, column: str, template: str) -> Data:
    """Make `target` of a column of strings, lists of strings, numbers, class labels or a nested field."""
    if column not in dataset.features:
        head, _, tail = column.partition(".")
        return _with_column(
            dataset, head, target, dataset.features[head][tail], lambda values: [v[tail] for v in values]
        )
    feature = dataset.features[column]
    text = datasets.Value("string")
    if isinstance(feature, datasets.ClassLabel):
        names = [template.format(name.replace("_", " ")) for name in feature.names]
        return _with_column(dataset, column, target, text, lambda ids: [None if i is None else names[i] for i in ids])
    inner = getattr(feature, "feature", feature)
    if not isinstance(inner, datasets.Value):
        raise ValueError(
            f"`{target}_column={column!r}` holds {feature}. It must hold strings, lists of strings or class labels. "
            f"Pass another of the columns {list(dataset.features)}: `{target}_column=...`."
        )
    dataset = _rename(dataset, column, target)
    if inner is feature and inner.dtype not in ("string", "large_string"):
        dataset = dataset.cast_column(target, text)  # captions such as "7" that a reader took for numbers
    return dataset


def _set_image(dataset: Data, column: str, find_folder: Callable[[], str | None]) -> Data:
    """Make `image` an undecoded image of a column of images, paths, bytes, or structs of both."""
    feature = dataset.features[column]
    if isinstance(feature, datasets.Image):
        # Even before the new name: in a stream that is mapped, too.
        dataset = dataset.cast_column(column, datasets.Image(decode=False))
    dataset = _rename(dataset, column, "image")
    if isinstance(feature, datasets.Value) and feature.dtype in ("string", "large_string"):
        dataset = _absolute(dataset, find_folder)
    elif isinstance(feature, datasets.Value) and feature.dtype in ("binary", "large_binary"):
        pass
    elif not isinstance(feature, datasets.Image) and not (
        isinstance(feature, dict) and {"bytes", "path"} >= set(feature)
    ):
        raise ValueError(
            f"`image_column={column!r}` holds {feature}. It must hold images, their bytes, or paths to them. "
            f"Pass another of the columns {list(dataset.features)}: `image_column=...`."
        )
    return _as_images(dataset)


def _absolute(dataset: Data, find_folder: Callable[[], str | None]) -> Data:
    """Let relative paths start from the folder of their file, or where only that fits, from the working directory."""
    first = next((row["image"] for row in dataset.select_columns(["image"]).take(1)), None)
    if first is None or "://" in first or os.path.isabs(first):
        return dataset
    folder = find_folder()
    if folder is None:
        return dataset
    # open_clip's own reader starts from the working directory; the first row tells which of the two is meant.
    if not os.path.exists(os.path.join(folder, first)) and os.path.exists(first):
        folder = os.getcwd()

    def join(paths: Iterable[str | None]) -> list[str | None]:
        return [None if path is None else os.path.join(folder, path) for path in paths]

    return _with_column(dataset, "image", "image", datasets.Value("string"), join)


def _as_images(dataset: Data) -> Data:
    """Paths, bytes or structs as undecoded images, without a look at the files."""
    undecoded = datasets.Image(decode=False)
    if isinstance(dataset, datasets.Dataset) or isinstance(dataset.features["image"], datasets.Image):
        return dataset.cast_column("image", undecoded)
    # A streamed column is not converted by a cast: its rows would stay strings or bytes.
    return _with_column(dataset, "image", "image", undecoded, lambda values: [_as_struct(value) for value in values])


def _as_struct(value: Any) -> dict[str, Any] | None:
    if value is None or isinstance(value, dict):
        return value
    return {"bytes": None, "path": value} if isinstance(value, str) else {"bytes": value, "path": None}


def _with_column(dataset: Data, source: str, target: str, feature: Any, function: Callable) -> Data:
    """Compute one column of another without rewriting the rest, which may hold gigabytes of pictures."""
    if isinstance(dataset, datasets.IterableDataset):
        features = datasets.Features({**dataset.features, target: feature})
        return dataset.map(
            lambda values: {target: function(values)}, batched=True, input_columns=[source], features=features
        )
    values = dataset.select_columns([source]).map(
        lambda values: {target: function(values)},
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
