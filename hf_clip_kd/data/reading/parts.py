"""Readers for the files of a source: ours where rows may differ from each other, and those of `datasets`."""

from __future__ import annotations

import inspect
import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets.data_files import DataFilesDict
from datasets.packaged_modules.csv.csv import Csv
from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder
from datasets.packaged_modules.json.json import Json
from datasets.packaged_modules.parquet.parquet import Parquet
from datasets.packaged_modules.webdataset.webdataset import WebDataset

from .folders import metadata_tables, plain_folder, split_patterns, unread_tables
from .rows import FORMATS, Rows
from .targets import sources_of

logger = logging.getLogger(__name__)

Data = datasets.Dataset | datasets.IterableDataset
SUFFIXES = FORMATS | {".parquet": "parquet"}

_SHOWN = 3  # files in a message
_SHARDS = 1024  # Data on disk can be cut anywhere. This number is enough for any number of readers.
_PREPARING = {"download_mode", "num_proc", "storage_options", "verification_mode"}
_LOADING = {"keep_in_memory", "num_proc", "save_infos", "verification_mode"}
_GENERAL = {*inspect.signature(datasets.load_dataset_builder).parameters} - {"features"} | _LOADING
# Options of the readers of `datasets` that ours know, and their names there. With any other option theirs read.
_OPTIONS = {
    "csv": {"delimiter": "delimiter", "sep": "delimiter", "encoding": "encoding"},
    "json": {"field": "field"},
}


@dataclass
class Part:
    """Files of a source that are alike, opened by `datasets`.

    Attributes:
        dataset (`Dataset` or `IterableDataset`): Their rows.
        has_targets (`bool`): Whether the rows have `image` and `text` already (see [`Rows`]).
        has_own_paths (`bool`): Whether `datasets` made the paths of the images, and lets none lead out of the folder.
        find_folder (`Callable`): Returns the folder from which relative paths in the rows start, or `None`.
    """

    dataset: Data
    has_targets: bool = False
    has_own_paths: bool = False
    find_folder: Callable[[], str | None] = lambda: None


def base_split(split: str) -> str:
    """Return the name of a split without its slice."""
    return re.match(r"\w+", split)[0]


def cut(dataset: datasets.Dataset, split: str) -> datasets.Dataset:
    """Return the slices that a split names, such as `train[:10%]`."""
    slices = datasets.ReadInstruction.from_spec(split).to_absolute({base_split(split): len(dataset)})
    return dataset.select([row for part in slices for row in range(part.from_, part.to)])


def open_parts(
    name: str, split: str, streaming: bool, kwargs: dict[str, Any], targets: dict[str, str] | None
) -> list[Part]:
    """Choose the reader for a source, and open it.

    Args:
        name (`str`): Name of a builder of `datasets`, a folder or a Hub id.
        split, streaming, kwargs: Arguments of `datasets.load_dataset`.
        targets (`dict[str, str]`, *optional*): `image`, `text` and so on, and the column that the user named for each.

    Returns:
        `list[Part]`: see [`read_parts`].
    """
    options = {key: value for key, value in kwargs.items() if key not in _GENERAL}
    arguments = {key: value for key, value in kwargs.items() if key not in _LOADING}
    folder = plain_folder(name, kwargs.get("data_dir"), kwargs.get("data_files"))
    if name == "imagefolder" and folder is not None:
        arguments |= {"data_dir": folder, "data_files": split_patterns(folder)}
    found = datasets.load_dataset_builder(name, **arguments)
    if isinstance(found, ImageFolder) and name != "imagefolder" and folder is not None:
        name, arguments = "imagefolder", arguments | {"data_dir": folder, "data_files": split_patterns(folder)}
        found = datasets.load_dataset_builder(name, **arguments)
    if folder is not None:
        _name_unread(folder, found)
    files = found.config.data_files or {}
    local = not any("://" in file for names in files.values() for file in names)

    def opened(builder: datasets.DatasetBuilder) -> Data:
        if streaming:
            return builder.as_streaming_dataset(split)
        builder.download_and_prepare(**{key: kwargs[key] for key in _PREPARING if key in kwargs})
        return builder.as_dataset(split, in_memory=bool(kwargs.get("keep_in_memory")))

    def rows(kind: str, data_files: DataFilesDict, known: dict[str, str]) -> list[Part]:
        tars = kind == "webdataset"
        builder = Rows(
            cache_dir=kwargs.get("cache_dir"),
            dataset_name=found.dataset_name,
            data_files=data_files,
            hash=f"{found.hash}-{__package__}-rows",
            token=kwargs.get("token"),
            format=kind,
            columns={target: sources_of(target, name, tars=tars) for target, name in (targets or {}).items()},
            options={known[key]: value for key, value in options.items()},
            here="" if tars else os.getcwd(),
        )
        return [Part(opened(builder), has_targets=targets is not None)]

    if isinstance(found, WebDataset):
        return rows("webdataset", files, {})
    if targets is not None and isinstance(found, ImageFolder) and local and not options:
        tables = metadata_tables(files)
        if tables is not None:
            return rows(*tables, {})
    for kind, builder in (("csv", Csv), ("json", Json)):
        if targets is not None and isinstance(found, builder) and options.keys() <= _OPTIONS[kind].keys():
            return rows(kind, files, _OPTIONS[kind])
    if targets is not None and isinstance(found, Parquet) and local and not options:
        groups = _alike(files.get(base_split(split), []))
        if len(groups) > 1:
            split = base_split(split)
            arguments = {key: value for key, value in arguments.items() if key not in ("data_dir", "name")}
            return [_of_parquet(group, opened, arguments | {"data_files": {split: group}}) for group in groups]
    return [Part(opened(found), has_own_paths=isinstance(found, ImageFolder))]


def _name_unread(folder: str, found: datasets.DatasetBuilder) -> None:
    """Name the tables that lie beside the files of a folder. `datasets` reads the commonest format alone."""
    kinds = {Csv: "csv", Json: "json", Parquet: "parquet", WebDataset: "webdataset", ImageFolder: None}
    kind = next((kind for builder, kind in kinds.items() if isinstance(found, builder)), "other")
    if kind != "other" and (unread := unread_tables(folder, kind, SUFFIXES)):
        more = f" and {len(unread) - _SHOWN} more" if len(unread) > _SHOWN else ""
        logger.warning(
            "%r holds files of several formats. It is read as %s, without %s%s. Pass all files that count: "
            "`data_files=[...]`.",
            *(folder, kind or "pictures", ", ".join(unread[:_SHOWN]), more),
        )


def from_disk(path: str, split: str, streaming: bool) -> Data | None:
    """Open a folder of `Dataset.save_to_disk`. Return `None` if it has no row.

    Raises:
        ValueError: if the folder has no such split.
    """
    dataset = datasets.load_from_disk(path)
    if isinstance(dataset, datasets.DatasetDict):
        if split not in dataset:
            raise ValueError(
                f"`split={split!r}` is not in {path!r}. It holds the splits {list(dataset)}. Pass one of them: "
                f"`split={next(iter(dataset))!r}`."
            )
        dataset = dataset[split]
    if len(dataset) == 0:
        return None
    return dataset.to_iterable_dataset(num_shards=min(_SHARDS, len(dataset))) if streaming else dataset


def _alike(files: list[str]) -> list[list[str]]:
    """Group neighbouring Parquet files that share their columns and their folder."""
    groups, last = [], None
    for file in files:
        try:
            key = pq.read_schema(file), os.path.dirname(file)
        except (OSError, pa.ArrowInvalid):  # A damaged file stays with its neighbours, and is named when it is read.
            key = last
        if key != last or not groups:
            groups.append([])
        groups[-1].append(file)
        last = key
    return groups


def _of_parquet(files: list[str], opened: Callable, arguments: dict[str, Any]) -> Part:
    folder = os.path.dirname(os.path.abspath(files[0]))
    return Part(opened(datasets.load_dataset_builder("parquet", **arguments)), find_folder=lambda: folder)
