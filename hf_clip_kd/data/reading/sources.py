"""Sources of rows: files, folders and Hub ids, opened by `datasets`, with errors that name the fix."""

from __future__ import annotations

import csv
import glob
import inspect
import os
import re
from pathlib import Path
from typing import Any

import datasets
from datasets.packaged_modules.webdataset.webdataset import WebDataset

from .tars import Tars

Data = datasets.Dataset | datasets.IterableDataset

_BY_SUFFIX = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".json": "json",
    ".jsonl": "json",
    ".tar": "webdataset",
}
_BUILDERS = ("imagefolder", "csv", "tsv", "parquet", "json", "webdataset", "arrow")
_SHARDS = 1024  # Data on disk can be cut anywhere. This number is enough for any number of readers.
_KINDS = (
    "It must be an id on the Hub, a local folder or file, 'shapes', or one of 'imagefolder' (with `data_dir`), 'csv', "
    "'tsv', 'parquet', 'json', 'webdataset' (with `data_files`)"
)


def find_files(dataset_name: str, data_files: str | list[str] | None) -> list[str] | None:
    """Return the files of the data: expanded patterns, or the dataset's name itself if it is a file.

    Args:
        dataset_name (`str`): Name of the data, as in [`load_image_text`].
        data_files (`str` or `list[str]`, *optional*): Files or patterns.

    Returns:
        `list[str]`, or `None` if no files were named. Files on a server or in a Hub repository stay as they are.

    Raises:
        ValueError: if a pattern names no file.
    """
    if data_files is None and Path(dataset_name).suffix in _BY_SUFFIX:
        data_files = dataset_name
    if data_files is None:
        return None
    patterns = [data_files] if isinstance(data_files, str) else list(data_files)
    local = dataset_name in (*_BUILDERS, *patterns) or os.path.isdir(dataset_name)
    if not local or any("://" in pattern for pattern in patterns):
        return patterns
    folder = dataset_name if os.path.isdir(dataset_name) else ""
    files = []
    for pattern in patterns:
        for name in _numbered(os.path.join(folder, pattern)):
            found = [name] if os.path.isfile(name) else sorted(glob.glob(name, recursive=True))
            if not found:
                raise ValueError(
                    f"`data_files={pattern!r}` names no file: there is no {name!r} (seen from {os.getcwd()!r}). Give "
                    "files by their path, with `*` for anything and `{00000..00331}` for numbered shards. Pass an "
                    "existing file: `data_files='folder/*.tar'`."
                )
            files += found
    return files


def base_folder(dataset_name: str, data_dir: str | None, files: list[str] | None) -> str | None:
    """Return the folder from which relative paths in the rows start, or `None` for data that is not local.

    Raises:
        ValueError: if the files lie in several folders.
    """
    if not files:
        folder = data_dir or dataset_name
        return os.path.abspath(folder) if os.path.isdir(folder) else None
    if not os.path.exists(files[0]):
        return None
    folders = sorted({os.path.dirname(os.path.abspath(file)) for file in files})
    if len(folders) > 1:
        raise ValueError(
            f"The data files lie in {len(folders)} folders ({folders[0]}, {folders[1]}, ...) and name their images by "
            "relative paths. Such paths must start from a single folder. Load each folder separately and join the "
            "results with `datasets.concatenate_datasets`."
        )
    return folders[0]


def read(
    dataset_name: str,
    *,
    data_dir: str | None,
    files: list[str] | None,
    split: str,
    streaming: bool,
    load_kwargs: dict[str, Any],
) -> Data:
    """Open one split with `datasets`.

    Raises:
        ValueError: if the data cannot be found or read, has no such split, or is empty.
    """
    folder = Path(dataset_name)
    if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
        return _from_disk(dataset_name, split, streaming)
    builder, kwargs = dataset_name, dict(load_kwargs)
    if files is not None:
        if builder in files or folder.is_dir():
            builder = _BY_SUFFIX.get(Path(files[0]).suffix, "imagefolder")
        if builder in ("csv", "tsv"):
            builder, kwargs = "csv", _csv_options(files, tabs=builder == "tsv") | kwargs
        kwargs["data_files"] = {re.match(r"\w+", split)[0]: files}
    if dataset_name in _BUILDERS and not (data_dir or files):
        # `datasets` would search the whole working directory.
        raise ValueError(
            f"`dataset_name={dataset_name!r}` alone names no data. It names a format, and needs a folder or files. "
            "Pass `data_dir='/path/to/folder'` or `data_files='/path/to/files-*'`."
        )
    if data_dir is not None:
        if dataset_name in _BUILDERS and "://" not in data_dir and not os.path.isdir(data_dir):
            raise ValueError(
                f"`data_dir={data_dir!r}` is not a folder (seen from {os.getcwd()!r}). It must be the folder with the "
                f"data of {dataset_name!r}. Pass its path: `data_dir='/path/to/folder'`."
            )
        kwargs["data_dir"] = data_dir
    try:
        dataset = _load(builder, split, streaming, kwargs)
        if streaming and dataset.features is None:
            dataset = dataset._resolve_features()
    # Readers raise many types of errors (no network, no such id or split, a damaged archive, pandas, Arrow).
    # All of them are about the user's data, and all become one type of error.
    except Exception as error:
        raise ValueError(_explain(dataset_name, data_dir, files, split, error)) from error
    if not streaming and len(dataset) == 0:
        raise ValueError(_empty(dataset_name, data_dir, files, split))
    return dataset


def _load(name: str, split: str, streaming: bool, kwargs: dict[str, Any]) -> Data:
    if name not in _BUILDERS or name == "webdataset":
        known = inspect.signature(datasets.load_dataset_builder).parameters
        builder = datasets.load_dataset_builder(name, **{key: kwargs[key] for key in kwargs if key in known})
        if isinstance(builder, WebDataset):
            return _load_tars(builder, split, streaming, kwargs)
    return datasets.load_dataset(name, split=split, streaming=streaming, **kwargs)


def _load_tars(found: WebDataset, split: str, streaming: bool, kwargs: dict[str, Any]) -> Data:
    """Read the files of a WebDataset with [`Tars`]."""
    tars = Tars(
        cache_dir=kwargs.get("cache_dir"),
        dataset_name=found.dataset_name,
        data_files=found.config.data_files,
        hash=f"{found.hash}-{__package__}",
        token=kwargs.get("token"),
    )
    if streaming:
        return tars.as_streaming_dataset(split)
    tars.download_and_prepare(num_proc=kwargs.get("num_proc"))
    return tars.as_dataset(split)


def _from_disk(path: str, split: str, streaming: bool) -> Data:
    dataset = datasets.load_from_disk(path)
    if isinstance(dataset, datasets.DatasetDict):
        if split not in dataset:
            raise ValueError(
                f"`split={split!r}` is not in {path!r}. It holds the splits {list(dataset)}. Pass one of them: "
                f"`split={next(iter(dataset))!r}`."
            )
        dataset = dataset[split]
    if len(dataset) == 0:
        raise ValueError(_empty(path, None, None, split))
    return dataset.to_iterable_dataset(num_shards=min(_SHARDS, len(dataset))) if streaming else dataset


def _numbered(pattern: str) -> list[str]:
    """Expand the usual names of shards: `a-{08..10}.tar` -> `a-08.tar, a-09.tar, a-10.tar`."""
    braces = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if braces is None:
        return [pattern]
    first, last = braces.groups()
    numbers = [str(i).zfill(len(first)) for i in range(int(first), int(last) + 1)]
    return [name for n in numbers for name in _numbered(pattern[: braces.start()] + n + pattern[braces.end() :])]


def _csv_options(files: list[str], tabs: bool) -> dict[str, Any]:
    """Return reader options that take every column as text and accept any byte or word."""
    if not os.path.isfile(files[0]):
        return {"delimiter": "\t"} if tabs or files[0].endswith(".tsv") else {}
    with open(files[0], encoding="utf-8-sig", errors="replace", newline="") as file:
        header = file.readline()
    # open_clip writes tabs into files named .csv.
    delimiter = "\t" if tabs or "\t" in header else ","
    names = next(csv.reader([header], delimiter=delimiter), [])
    return {
        "delimiter": delimiter,
        "features": datasets.Features({name: datasets.Value("string") for name in names}) if names else None,
        "keep_default_na": False,  # "None" and "NA" are ordinary captions.
        "encoding_errors": "replace",
        "on_bad_lines": "warn",
    }


def _empty(dataset_name: str, data_dir: str | None, files: list[str] | None, split: str) -> str:
    return (
        f"The dataset {dataset_name!r} (split {split!r}) is empty: no row was found in "
        f"{data_dir or (files or [dataset_name])[0]!r}. It must hold at least one image with a caption. Pass the "
        "folder or the files that hold them: `data_dir=...` or `data_files=...`."
    )


def _explain(dataset_name: str, data_dir: str | None, files: list[str] | None, split: str, error: Exception) -> str:
    """Return the message for data that `datasets` could not open: the reason, the allowed values and the fix."""
    if "corresponds to no data" in str(error):
        return _empty(dataset_name, data_dir, files, split)
    cause = error.__cause__ or error  # `datasets` wraps a reader's error in "An error occurred while ...".
    reason = " ".join(str(cause).split())[:300] or type(cause).__name__
    place = f", data_dir={data_dir!r}" if data_dir else f", data_files={files[0]!r}" if files else ""
    what = f"The dataset {dataset_name!r} (split {split!r}{place}) could not be loaded: {reason.rstrip('.')}."
    if isinstance(error, ValueError) and "split" in str(error).lower():
        return f"{what} The split must be one of those. Pass it: `split=...`."
    if isinstance(error, ConnectionError):
        return (
            f"{what} {_KINDS}. This machine cannot reach the Hub. Run `hf download --repo-type dataset "
            f"{dataset_name}` on a machine that can, and pass the folder."
        )
    if isinstance(error, FileNotFoundError):
        return f"{what} {_KINDS}. Correct the name, or pass the data: `data_dir=...` or `data_files=...`."
    return f"{what} {_KINDS}. Repair or leave out the file: `data_files=...`."
