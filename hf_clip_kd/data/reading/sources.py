"""Sources of rows: files, folders and Hub ids, opened by `datasets`, with errors that name the fix."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from .parts import SUFFIXES, Data, Part, base_split, from_disk, open_parts
from .targets import ColumnError

_BUILDERS = ("imagefolder", "csv", "tsv", "parquet", "json", "webdataset", "arrow")
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
    if data_files is None and Path(dataset_name).suffix.lower() in SUFFIXES:
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


def read(dataset_name: str, **arguments: Any) -> Part:
    """Open one split with the readers of `datasets`, which fit whole files. The arguments are those of [`read_parts`].

    Raises:
        ValueError: if the data cannot be found or read, has no such split, or is empty.
    """
    return read_parts(dataset_name, targets=None, **arguments)[0]


def read_parts(
    dataset_name: str,
    *,
    data_dir: str | None,
    files: list[str] | None,
    split: str,
    streaming: bool,
    load_kwargs: dict[str, Any],
    targets: dict[str, str] | None,
) -> list[Part]:
    """Open one split of a source.

    Args:
        dataset_name, data_dir, split, streaming: As in [`load_image_text`].
        files (`list[str]`, *optional*): Files from [`find_files`].
        load_kwargs (`dict`): Arguments of `datasets.load_dataset`.
        targets (`dict[str, str]`, *optional*):
            `image`, `text` and so on, and the column that the user named for each. With them, CSV, JSON, tars and
            image folders with metadata are read by [`Rows`].

    Returns:
        `list[Part]`: one, or several if the Parquet files differ in their columns or folders. Their rows are in the
        order of the files. A slice in `split`, such as `[:10%]`, is left to the caller if there are several.

    Raises:
        ValueError: if the data cannot be found or read, has no such split, or is empty.
    """
    folder, place = Path(dataset_name), (dataset_name, data_dir, files, split)
    if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
        dataset = from_disk(dataset_name, split, streaming)
        if dataset is None:
            raise ValueError(_empty(dataset_name, None, None, split))
        return [Part(_checked(dataset, *place), find_folder=lambda: os.path.abspath(folder))]
    builder, kwargs = dataset_name, dict(load_kwargs)
    if files is not None:
        if builder in files or folder.is_dir():
            builder = SUFFIXES.get(Path(files[0]).suffix.lower(), "imagefolder")
        kwargs["data_files"] = {base_split(split): files}
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
    if builder == "tsv":
        builder, kwargs["delimiter"] = "csv", kwargs.get("delimiter", "\t")
    try:
        parts = open_parts(builder, split, streaming, kwargs, targets)
        for part in parts:
            if streaming and part.dataset.features is None:
                part.dataset = part.dataset._resolve_features()
    except ColumnError:
        raise
    # Readers raise many types of errors (no network, no such id or split, a damaged archive, pandas, Arrow).
    # All of them are about the user's data, and all become one type of error.
    except Exception as error:
        raise ValueError(_explain(*place, error)) from error
    for part in parts:
        if not part.has_targets:
            part.dataset = _checked(part.dataset, *place)
    if not streaming and not any(len(part.dataset) for part in parts):
        raise ValueError(_empty(dataset_name, data_dir, files, split))
    if len(parts) == 1:
        parts[0].find_folder = lambda: base_folder(dataset_name, data_dir, files)
    return parts


def _checked(dataset: Data, *place: Any) -> Data:
    """
    Return rows that `datasets` takes over as they are, after a look at their texts.

    Text in a Parquet or Arrow file may be no UTF-8, which is found nowhere before a row is read. A stream finds it
    then, and counts the row as broken.
    """
    if isinstance(dataset, datasets.Dataset):
        try:
            dataset.data.validate(full=True)
        except pa.ArrowInvalid as error:
            raise ValueError(_explain(*place, error)) from error
    return dataset


def _numbered(pattern: str) -> list[str]:
    """Expand the usual names of shards: `a-{08..10}.tar` -> `a-08.tar, a-09.tar, a-10.tar`."""
    braces = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if braces is None:
        return [pattern]
    first, last = braces.groups()
    numbers = [str(i).zfill(len(first)) for i in range(int(first), int(last) + 1)]
    return [name for n in numbers for name in _numbered(pattern[: braces.start()] + n + pattern[braces.end() :])]


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
