"""Images with captions from any source of `datasets`, as columns `image` (undecoded) and `text`."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np

from .reading.cached import source_of_cache
from .reading.parts import Data, cut
from .reading.sources import find_files, read_parts
from .reading.targets import ColumnError
from .reading.typed import joined, with_targets


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
              one folder per class (then pass `text_column="label"`). Sub-folders `train`, `val` and so on are splits;
            - a `.csv`, `.tsv`, `.parquet`, `.jsonl` or `.tar` file, or a folder of them;
            - `"csv"`, `"tsv"`, `"parquet"`, `"json"` or `"webdataset"`, with `data_files`;
            - a folder written by `Dataset.save_to_disk`;
            - a teacher cache, as a folder or an id on the Hub. Its `recipe.yaml` names its images, captions and
              columns;
            - `"shapes"`, the embedded world, which needs no files.

            Paths of images in a file start from the folder of that file, or else from the working directory.
        data_dir (`str`, *optional*):
            Folder of the data, for `"imagefolder"` and the like.
        data_files (`str` or `list[str]`, *optional*):
            Files, with `*` for anything and `{00000..00331}` for numbered shards.
        split (`str`, *optional*, defaults to `"train"`):
            Split as in `datasets`: `"validation"`, `"train[:10%]"`. `data_files` are the files of this split.
        image_column, text_column (`str`, *optional*, default to `"image"` and `"text"`):
            Columns of the source. `"json.caption"` is the field `caption` of a nested column. A row without the
            defaults is searched for the usual names (`filepath` and `title` of open_clip, `jpg` and `txt` of
            WebDataset, and other endings of pictures). An image is a path, bytes, base64, or a `data:` or `file:`
            URI. A caption is a string, a number, a class label, or a list of them.
        synthetic_text_column (`str`, *optional*):
            Column of generated captions, for losses that also learn from them. Each cell is a string or a list of
            strings. `"shapes"` has one, `"synthetic_text"`.
        label_template (`str`, *optional*, defaults to `"a photo of a {}."`):
            Caption of a class name, if `text_column` holds class labels.
        max_samples (`int`, *optional*):
            Number of rows to read, the first ones. A stream of several files reads them once to count them.
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
        - all other columns of the source. A column of objects is a `datasets.Json`;
        - `__error__`, for CSV, JSON, tars and metadata: `None`, or the reason why the row is unusable. `__key__` then
          names the sample, or the file and the line. [`CLIPDataCollator`] skips, counts and names such a row.

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
    targets = {"image": image_column, "text": text_column}
    if synthetic_text_column is not None:
        targets["synthetic_text"] = synthetic_text_column
    try:
        parts = read_parts(
            dataset_name,
            data_dir=data_dir,
            files=find_files(dataset_name, data_files),
            split=split,
            streaming=streaming,
            load_kwargs=load_kwargs,
            targets=targets,
        )
        for part in parts:
            if max_samples is not None and len(parts) == 1:
                part.dataset = _first(part.dataset, max_samples)
            if not part.has_targets:
                part.dataset = with_targets(part, targets, label_template)
    except ColumnError as error:
        raise ColumnError(f"In {str(data_dir or data_files or dataset_name)!r}, {error}") from error
    dataset = joined([part.dataset for part in parts])
    if len(parts) > 1 and "[" in split:
        dataset = cut(dataset, split)
    return _numbered(dataset if max_samples is None or len(parts) == 1 else _first(dataset, max_samples))


def _numbered(dataset: Data) -> Data:
    """Add the column `__index__`, which keys a row's crops in any order of reading."""
    if isinstance(dataset, datasets.IterableDataset):
        return dataset
    if "__index__" in dataset.column_names:
        dataset = dataset.remove_columns("__index__")
    return dataset.add_column("__index__", np.arange(len(dataset)))


def _first(dataset: Data, number: int) -> Data:
    """Return the first rows. In a stream they are those of the first shards, whoever reads which shard."""
    if isinstance(dataset, datasets.Dataset) or dataset.num_shards == 1:
        return dataset.take(number)
    shards = []
    for i in range(dataset.num_shards):
        shard = dataset.shard(dataset.num_shards, i).take(number)
        shards.append(shard)
        number -= sum(table.num_rows for table in shard.with_format("arrow").iter(batch_size=1000))
        if number <= 0:
            break
    return datasets.concatenate_datasets(shards)
