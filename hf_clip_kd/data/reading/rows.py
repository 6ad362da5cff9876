"""Reader that decides for each row alone which of its cells are the image and the captions."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import datasets
import pyarrow as pa
from datasets.builder import Key
from datasets.packaged_modules.webdataset.webdataset import WebDataset
from datasets.utils.file_utils import xopen

from .cells import CellError, Locate, caption_cell, image_cell, locator, picked, short
from .columns import TEXT, UNDECODED, column_array, column_feature
from .tables import read_csv, read_json
from .targets import check_apart, unknown_column, wrong_column
from .tars import ERROR, OBJECTS, read_tar

logger = logging.getLogger(__name__)

READERS = {"csv": read_csv, "json": read_json, "webdataset": read_tar}
"""Functions that yield the rows of one open file, by the name that `datasets` has for the format."""

FORMATS = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".tar": "webdataset"}
"""Formats by the ending of a file."""

_OWN = ("__key__", "__url__", ERROR)
_LOOK_AT = {"csv": 1000, "json": 1000, "webdataset": 20}  # Rows of a file that tell which columns there are.
_FILES = 16  # Files that tell it. Of files on a server it is the first, unless it lacks a column.
_BATCH = {"csv": 1000, "json": 1000, "webdataset": 10}  # Rows that are in memory at a time.


@dataclass
class RowsConfig(datasets.BuilderConfig):
    """Settings of [`Rows`]. `datasets` keys its cache by them.

    Attributes:
        format (`str`): Key of `READERS`.
        columns (`dict[str, tuple[str]]`): Target column (`image`, `text`, ...) to its sources, the preferred first.
        options (`dict`): Arguments of the reader, such as `delimiter`.
        here (`str`): Working directory, from which relative paths may start.
    """

    format: str = "webdataset"
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    here: str = ""


class Rows(datasets.ArrowBasedBuilder):
    """Reader of `datasets` that goes on after a fault. An unusable row has its reason in the column `__error__`."""

    BUILDER_CONFIG_CLASS = RowsConfig
    DEFAULT_WRITER_BATCH_SIZE = 1000

    def _info(self):
        return datasets.DatasetInfo()

    def _split_generators(self, dl_manager):
        splits = []
        for split, names in self.config.data_files.items():
            # A tar is read where it lies. `datasets` would unpack it.
            fetch = dl_manager.download if self.config.format == "webdataset" else dl_manager.download_and_extract
            found = zip(names, fetch(list(names)), strict=True)
            found = [(name, file) for name, path in found for file in dl_manager.iter_files(path)]
            # `datasets` divides the lists among its workers and gives other arguments to each of them.
            kwargs = {"names": [name for name, _ in found], "files": [file for _, file in found]}
            kwargs["download_config"] = dl_manager.download_config
            splits.append(datasets.SplitGenerator(name=split, gen_kwargs=kwargs))
        if self.info.features is None:
            self.info.features = self._features(self._first_rows([split.gen_kwargs for split in splits]))
        return splits

    def _generate_shards(self, names, files, download_config):
        yield from names

    def _generate_tables(self, names, files, download_config):
        told = set()
        for shard, (name, file) in enumerate(zip(names, files, strict=True)):
            local = "://" not in name and os.path.exists(name)
            locate = locator(os.path.dirname(os.path.abspath(name)) if local else None)
            rows = enumerate(self._rows(name, file, download_config))
            rows = (self._with_targets(row, f"{name}, row {number}", locate, told) for number, row in rows)
            batch = 0
            while some := list(islice(rows, _BATCH[self.config.format])):
                yield Key(shard, batch), self._table(some, name, told)
                batch += 1

    def _rows(self, name: str, file: str, download_config: datasets.DownloadConfig) -> Iterator[dict[str, Any]]:
        """Yield the rows of one file. A file that cannot be opened or read is a row that says so."""
        number, kind = 0, FORMATS.get(os.path.splitext(name)[1].lower(), self.config.format)
        options = self.config.options if kind == self.config.format else {}
        try:
            with xopen(file, "rb", download_config=download_config, block_size=0) as opened:  # Size 0 reads a stream.
                for row in READERS[kind](opened, name, **options):
                    yield row
                    number += 1
        except Exception as error:  # Servers and decompressors raise errors of many types.
            reason = f"the file is damaged after {number} rows ({type(error).__name__}: {error})"
            yield {"__key__": name, "__url__": name, ERROR: reason}

    def _first_rows(self, splits: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the first good rows of the first files. All of them together tell which columns there are."""
        good, faulty, read = [], None, 0
        for split in splits:
            for name, file in zip(split["names"], split["files"], strict=True):
                limit, here = _LOOK_AT[self.config.format], []
                for row in islice(self._rows(name, file, split["download_config"]), 10 * limit):
                    if row.get(ERROR) is None:
                        here.append(row)
                    faulty = faulty or (row if row.get(ERROR) else None)
                    if len(here) == limit:
                        break
                good, read = good + here, read + bool(here)
                complete = all(any(picked(row, names)[0] for row in good) for names in self.config.columns.values())
                if read == _FILES or (read and "://" in name and complete):
                    return good
        if not good:
            raise ValueError(
                f"no row can be read: {faulty['__key__']}: {faulty[ERROR]}" if faulty else "it corresponds to no data"
            )
        return good

    def _features(self, rows: list[dict[str, Any]]) -> datasets.Features:
        """Return the columns of these rows: the targets, the others in their order, and our own."""
        fields = list(dict.fromkeys(name for row in rows for name in row))
        others = [name for name in fields if name not in _OWN]
        features, used = {}, {}
        for target, names in self.config.columns.items():
            found = [(name, cell) for name, cell in (picked(row, names) for row in rows) if name is not None]
            if not found:
                raise unknown_column(target, names[0], others, [])
            used[target] = {name for name, _ in found}
            cells = [_cell(target, cell) for _, cell in found]
            if all(isinstance(cell, CellError) for cell in cells):
                raise wrong_column(target, found[0][0], short(found[0][1]), others)
            several = any(isinstance(cell, list) for cell in cells)
            features[target] = UNDECODED if target == "image" else datasets.List(TEXT) if several else TEXT
        check_apart(used, others)
        for name in others:
            if name not in set().union(*used.values()) and name not in features:
                features[name] = self._kept(name, [row.get(name) for row in rows])
        return datasets.Features(features | {name: TEXT for name in _OWN if name != "__url__" or name in fields})

    def _kept(self, name: str, values: list[Any]) -> Any:
        ending = name.rsplit(".")[-1] if self.config.format == "webdataset" else None
        if ending in WebDataset.IMAGE_EXTENSIONS:
            return datasets.Image()
        return datasets.Json() if ending in OBJECTS else column_feature(values)

    def _with_targets(self, row: dict[str, Any], key: str, locate: Locate, told: set[str]) -> dict[str, Any]:
        """Return the row with its image and captions in columns of their own."""
        found = dict(row)
        for name, feature in self.info.features.items():
            if name in self.config.columns:
                source, value = picked(row, self.config.columns[name])
                found[name] = _cell(name, value, locate)
                if isinstance(found[name], CellError):  # Only this row is lost.
                    found["__key__"] = row.get("__key__") or key
                    found[ERROR], found[name] = row.get(ERROR) or str(found[name]), None
                elif name != "image":
                    if feature == TEXT and isinstance(found[name], list) and len(found[name]) > 1:
                        message = "%s: %s, where the first rows hold a single %s. Only the first counts."
                        _tell(told, name, message, key, short(value), name)
                    found[name] = _as_feature(found[name], feature)
            elif isinstance(feature, datasets.Image):
                source, value = name, row.get(name)
                found[name] = None if value is None else {"bytes": value, "path": None}
            else:
                continue
            if isinstance(value, bytes) and "__url__" in row and isinstance(found[name], dict):
                found[name]["path"] = f"{row['__key__']}.{source}"
        return found

    def _table(self, rows: list[dict[str, Any]], name: str, told: set[str]) -> pa.Table:
        columns = []
        for column, feature in self.info.features.items():
            array, odd = column_array([row.get(column) for row in rows], feature)
            columns.append(array)
            if odd:
                message = "%s: column %r holds %s, where the first rows hold %s. It stays empty in such rows."
                _tell(told, column, message, name, column, short(odd[0]), feature)
        return pa.Table.from_arrays(columns, schema=self.info.features.arrow_schema)


def _tell(told: set[str], column: str, message: str, *values: Any) -> None:
    """Log what is odd about a column, once."""
    if column not in told:
        told.add(column)
        logger.warning(message, *values)


def _as_feature(captions: Any, feature: Any) -> Any:
    """Return captions in the form of their column: of several in a column for one, the first."""
    if isinstance(captions, list) and feature == TEXT:
        return next((caption for caption in captions if caption), None)
    return [captions] if isinstance(captions, str) and feature != TEXT else captions


def _cell(target: str, value: Any, locate: Locate = str) -> Any:
    try:
        return image_cell(value, locate) if target == "image" else caption_cell(value)
    except CellError as error:
        return error
