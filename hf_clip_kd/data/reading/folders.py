"""Splits of an image folder. Names of sub-folders tell them, and names of pictures and classes do not."""

from __future__ import annotations

import glob
import os
import re
from typing import Any

from datasets.data_files import SPLIT_KEYWORDS, DataFilesDict, DataFilesList
from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder
from huggingface_hub import metadata_load

_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


def plain_folder(name: str, data_dir: str | None, data_files: Any) -> str | None:
    """
    Return the image folder that a source is, or `None` if someone said which files its splits have.

    Args:
        name (`str`): `"imagefolder"`, or the folder itself.
        data_dir, data_files (*optional*): Arguments of `datasets.load_dataset`.
    """
    folder = data_dir if name == "imagefolder" else name
    if data_files or (name != "imagefolder" and data_dir) or folder is None or not os.path.isdir(folder):
        return None
    card = os.path.join(folder, "README.md")
    if os.path.isfile(card) and "configs" in (metadata_load(card) or {}):
        return None
    return os.path.abspath(folder)


def split_patterns(folder: str) -> dict[str, list[str]]:
    """
    Return the files of each split of an image folder, as patterns below the folder.

    Sub-folders are splits if each of them has the name of a split, such as `train` or `val2017`. They also are if two
    splits lie beside others. Otherwise all pictures are the split `"train"`: a class may be called `train`.

    Args:
        folder (`str`): The image folder.

    Returns:
        `dict[str, list[str]]`: split to patterns. No file is in two of them.
    """
    everything = {"train": ["**"]}
    inside = sorted(entry.name for entry in os.scandir(folder) if not entry.name.startswith((".", "__")))
    subfolders = [name for name in inside if os.path.isdir(os.path.join(folder, name))]
    if any(name in _METADATA or _is_picture(name) for name in inside):
        return everything
    subfolders = [name for name in subfolders if _has_pictures(os.path.join(folder, name))]
    if len(subfolders) == 1 and _split(subfolders[0]) is None:
        below = split_patterns(os.path.join(folder, subfolders[0]))
        return {
            split: [f"{glob.escape(subfolders[0])}/{pattern}" for pattern in patterns]
            for split, patterns in below.items()
        }
    splits = {name: _split(name) for name in subfolders}
    exact = {split for name, split in splits.items() if name.lower() in SPLIT_KEYWORDS.get(split, ())}
    if not subfolders or (None in splits.values() and len(exact) < 2):
        return everything
    found = {}
    for name, split in splits.items():
        if split is not None:
            found.setdefault(split, []).append(f"{glob.escape(name)}/**")
    return found


def _split(name: str) -> str | None:
    """Return the split that a folder's name has as a word."""
    words = re.split(r"[-._ 0-9]+", name.lower())
    return next((str(split) for split, known in SPLIT_KEYWORDS.items() if {*known} & {*words}), None)


def _is_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in ImageFolder.EXTENSIONS or name.endswith(".zip")


def _has_pictures(folder: str) -> bool:
    return any(_is_picture(name) for _, _, names in os.walk(folder) for name in names)


def unread_tables(folder: str, kind: str | None, formats: dict[str, str]) -> list[str]:
    """
    Return the tables and tars of a folder that a reader for another format passes over, sorted.

    Args:
        folder (`str`): The folder that a source is.
        kind (`str`, *optional*): Format that is read, such as `"csv"`. `None` stands for pictures.
        formats (`dict[str, str]`): Suffix to format.
    """
    names = [os.path.join(place, name) for place, _, names in os.walk(folder) for name in names]
    names = [name for name in names if not os.path.basename(name).startswith((".", "dataset_info", *_METADATA))]
    return sorted(name for name in names if formats.get(os.path.splitext(name)[1].lower(), kind) != kind)


def metadata_tables(data_files: DataFilesDict) -> tuple[str, DataFilesDict] | None:
    """
    Return the format of the metadata of an image folder, `"csv"` or `"json"`, and the tables of each split.

    It is `None` if `datasets` must read the folder. That is a folder without metadata or with archives. It also is
    metadata in two formats or with several image columns.

    Args:
        data_files (`DataFilesDict`): Files of each split, on this machine.
    """
    kinds, found = set(), DataFilesDict()
    for split, files in data_files.items():
        tables = [file for file in files if os.path.basename(file) in _METADATA]
        if not tables or any(file.endswith(".zip") for file in files):
            return None
        for table in tables:
            with open(table, "rb") as opened:
                several = re.search(rb"\w_file_name|file_names", opened.readline())
            kinds.add(None if several else os.path.splitext(table)[1])
        found[split] = DataFilesList(tables, files.origin_metadata)
    kind = {".csv": "csv", ".jsonl": "json"}.get(kinds.pop()) if len(kinds) == 1 else None
    return None if kind is None else (kind, found)
