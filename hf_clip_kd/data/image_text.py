"""Images with captions from any source of `datasets`, as columns `image` (undecoded) and `text`."""

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

# Column names of common sources. They are tried in this order if the default name is missing.
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
    """Load images with captions from files, a folder, the Hub or a teacher cache.

    Images stay undecoded. [`CLIPDataCollator`] finds a broken image, names it and skips it, and the run goes on.

    Args:
        dataset_name (`str`):
            - an id on the Hub, such as `"pixparse/cc12m-wds"`;
            - `"imagefolder"` with `data_dir`: images with a `metadata.csv` or `.jsonl` (`file_name`, `text`), or in
              one folder per class (then pass `text_column="label"`);
            - a `.csv`, `.tsv`, `.parquet`, `.jsonl` or `.tar` file, or a folder of them;
            - `"csv"`, `"tsv"`, `"parquet"`, `"json"` or `"webdataset"`, with `data_files`;
            - a folder written by `Dataset.save_to_disk`;
            - a teacher cache, as a folder or an id on the Hub. Its `recipe.yaml` names its images, captions and
              columns;
            - `"shapes"`, the embedded world, which needs no files.

            Paths of images in a file start from the folder of that file.
        data_dir (`str`, *optional*):
            Folder of the data, for `"imagefolder"` and the like.
        data_files (`str` or `list[str]`, *optional*):
            Files, with `*` for anything and `{00000..00331}` for numbered shards.
        split (`str`, *optional*, defaults to `"train"`):
            Split as in `datasets`: `"validation"`, `"train[:10%]"`. `data_files` are the files of this split.
        image_column, text_column (`str`, *optional*, default to `"image"` and `"text"`):
            Columns of the source. `"json.caption"` is the field `caption` of a nested column. If the defaults are
            missing, the usual names are tried (`filepath` and `title` of open_clip, `jpg` and `txt` of WebDataset).
        synthetic_text_column (`str`, *optional*):
            Column of generated captions, for losses that also learn from them. Each cell is a string or a list of
            strings. `"shapes"` has one, `"synthetic_text"`.
        label_template (`str`, *optional*, defaults to `"a photo of a {}."`):
            Caption of a class name, if `text_column` holds class labels.
        max_samples (`int`, *optional*):
            Number of rows to read, the first ones.
        streaming (`bool`, *optional*, defaults to `False`):
            Read during training, without a copy in the cache of `datasets`. Use it for data larger than the disk.
        load_kwargs:
            Arguments of `datasets.load_dataset` (`name`, `revision`, `cache_dir`, `token`, ...), or of `load_shapes`.

    Returns:
        `datasets.Dataset`, or `datasets.IterableDataset` if streaming, with the columns
        - `image`, a `datasets.Image(decode=False)`;
        - `text`, a string or a list of strings (several captions of one image);
        - `synthetic_text` of the same form, if it was asked for;
        - `__index__`, the row's number, which keys its crops (see
          [`~hf_clip_kd.data.transforms.keyed_random.row_uniforms`]). A stream gets it from [`Stream`];
        - all other columns of the source.

    Raises:
        ValueError: if the data cannot be found or read, has no such split or columns, or is empty.
    """
    if dataset_name == "shapes":
        from .shapes import load_shapes

        if synthetic_text_column not in (None, "synthetic_text"):
            raise ValueError(
                f"`synthetic_text_column={synthetic_text_column!r}` is not a column of 'shapes'. Its generated "
                "captions are 'synthetic_text'. Pass `synthetic_text_column='synthetic_text'`."
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
                f"`synthetic_text_column={synthetic_text_column!r}` is also the column of the images or captions. It "
                f"must be another of the columns {list(dataset.features)}. Pass it, or leave `synthetic_text_column` "
                "out."
            )
    if max_samples is not None:
        dataset = dataset.take(max_samples)
    # The images come first. A `map` over a stream decodes its images until the column says `decode=False`.
    dataset = _set_image(dataset, image_column, lambda: base_folder(dataset_name, data_dir, files))
    if synthetic_text_column is not None:
        # These come before the text, because setting the text may replace a column `text` of generated captions.
        dataset = _set_text(dataset, "synthetic_text", synthetic_text_column, label_template)
    return _numbered(_set_text(dataset, "text", text_column, label_template))


def _numbered(dataset: Data) -> Data:
    """Add the column `__index__`, which keys a row's crops in any order of reading."""
    if isinstance(dataset, datasets.IterableDataset):
        return dataset
    if "__index__" in dataset.column_names:
        dataset = dataset.remove_columns("__index__")
    return dataset.add_column("__index__", np.arange(len(dataset)))


def _find_column(dataset: Data, target: str, name: str) -> str:
    """Return the name of the source column to use. An unknown name raises an error with all names."""
    features = dataset.features or {}
    names = list(features)
    candidates = (name, *_ALIASES.get(target, ())) if name == target else (name,)
    for candidate in candidates:
        head, _, tail = candidate.partition(".")
        if candidate in names or (tail and isinstance(features.get(head), dict) and tail in features[head]):
            if candidate != name:
                logger.info("The data has no column %r. Column %r is used as the %s.", name, candidate, target)
            return candidate
    classes = [n for n in names if isinstance(features[n], datasets.ClassLabel)]
    hint = (
        f" For captions made of class names, pass `text_column={classes[0]!r}`."
        if classes and target == "text"
        else ""
    )
    raise ValueError(
        f"`{target}_column={name!r}` is not a column of the dataset. Its columns are {names}. "
        f"Pass the one that holds the {_HOLDS[target]}: `{target}_column=...`.{hint}"
    )


def _set_text(dataset: Data, target: str, column: str, template: str) -> Data:
    """Make the column `target` from strings, lists of strings, numbers, class labels or a nested field."""
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
        dataset = dataset.cast_column(target, text)  # A reader takes captions such as "7" for numbers.
    return dataset


def _set_image(dataset: Data, column: str, find_folder: Callable[[], str | None]) -> Data:
    """Make the column `image`, undecoded, from images, paths, bytes, or structs of both."""
    feature = dataset.features[column]
    if isinstance(feature, datasets.Image):
        # The cast comes before the new name, because renaming maps over a stream and would decode it.
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
    """Make relative paths absolute: from the folder of their file, or else from the working directory."""
    first = next((row["image"] for row in dataset.select_columns(["image"]).take(1)), None)
    if first is None or "://" in first or os.path.isabs(first):
        return dataset
    folder = find_folder()
    if folder is None:
        return dataset
    # open_clip's own reader starts from the working directory. The first row shows which folder is meant.
    if not os.path.exists(os.path.join(folder, first)) and os.path.exists(first):
        folder = os.getcwd()

    def join(paths: Iterable[str | None]) -> list[str | None]:
        return [None if path is None else os.path.join(folder, path) for path in paths]

    return _with_column(dataset, "image", "image", datasets.Value("string"), join)


def _as_images(dataset: Data) -> Data:
    """Cast paths, bytes or structs to undecoded images, without opening any file."""
    undecoded = datasets.Image(decode=False)
    if isinstance(dataset, datasets.Dataset) or isinstance(dataset.features["image"], datasets.Image):
        return dataset.cast_column("image", undecoded)
    # A cast does not convert a streamed column: its rows would stay strings or bytes.
    return _with_column(dataset, "image", "image", undecoded, lambda values: [_as_struct(value) for value in values])


def _as_struct(value: Any) -> dict[str, Any] | None:
    if value is None or isinstance(value, dict):
        return value
    return {"bytes": None, "path": value} if isinstance(value, str) else {"bytes": value, "path": None}


def _with_column(dataset: Data, source: str, target: str, feature: Any, function: Callable) -> Data:
    """Compute one column from another. The rest, perhaps gigabytes of images, is not rewritten."""
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
