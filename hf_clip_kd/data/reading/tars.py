"""Reader for tars of images and captions (WebDataset). A damaged part becomes a row with the reason."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import datasets
import pyarrow as pa
from datasets.builder import Key
from datasets.features.features import cast_to_python_objects
from datasets.packaged_modules.webdataset.webdataset import WebDataset, base_plus_ext
from datasets.utils.file_utils import xopen

ERROR = "__error__"
"""Column with the reason why a row is unusable. [`CLIPDataCollator`] counts and names such a row."""

MAX_MEMBER = 2**28
"""Largest file in a tar that is read, in bytes (256 MB). No image or caption needs more."""

_MAX_SIZE = 2**36  # A larger size is damage. `tarfile` would search for the end of such a file for hours.
_BUFFER = 2**18
_LOOK_AT = 5  # The columns are taken from this number of rows.


class _Header(tarfile.TarInfo):
    """Header that reports damage. `tarfile` takes a damaged header, except the first, for the end of the tar."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> tarfile.TarInfo:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # Zeros end every complete archive.
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error}, where a file or the end should be") from error


def read_tar(file: BinaryIO, name: str) -> Iterator[dict[str, Any]]:
    """Yield the samples of one tar: neighbouring files that share the name up to the first dot.

    Args:
        file (binary file): Tar, read once from start to end.
        name (`str`): Name of the tar.

    Yields:
        `dict`: `__key__`, `__url__`, `__error__` (`None`, or the reason why the sample is unusable), and the contents
        by extension. Contents are bytes, or the value that `datasets` decodes from `txt`, `json` and the like.

        A damaged tar ends with a row that has the tar's name and no contents. Its reason counts the samples before.
        The sample in which the damage lies is lost.
    """
    row, count = None, 0
    try:
        with tarfile.open(fileobj=file, mode="r|*", tarinfo=_Header, bufsize=_BUFFER) as archive:
            for member in archive:
                archive.members = []  # `tarfile` would keep every header in memory.
                if member.size > _MAX_SIZE:
                    raise tarfile.ReadError(f"{member.name!r} claims {member.size:,} bytes")
                key, field = base_plus_ext(member.name)
                if key is None or not member.isfile() or os.path.basename(member.name).startswith((".", "__")):
                    continue
                if row is None or row["__key__"] != key:
                    if row is not None:
                        yield row
                        count += 1
                    row = {"__key__": key, "__url__": name, ERROR: None}
                _add(row, field.lower(), member, archive)
    except Exception as error:  # Decompressors and broken connections raise errors of many types.
        reason = f"the tar is damaged after {count} samples ({type(error).__name__}: {error})"
        yield {"__key__": name, "__url__": name, ERROR: reason}
        return
    if row is not None:
        yield row


def _add(row: dict[str, Any], field: str, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
    if field in row:
        row[ERROR] = f"two files {member.name!r} in the tar"
        return
    if member.size > MAX_MEMBER:
        row[field], row[ERROR] = None, f"{member.name!r} has {member.size:,} bytes: more than {MAX_MEMBER:,}"
        return
    data = archive.extractfile(member).read()
    if len(data) < member.size:
        raise tarfile.ReadError(f"{member.name!r} is cut short")
    decode = WebDataset.DECODERS.get(field.rsplit(".")[-1])
    try:
        row[field] = data if decode is None else decode(data)
    except Exception as error:  # Decoders of many formats raise errors of many types.
        row[field], row[ERROR] = None, f"{member.name!r} cannot be read ({type(error).__name__}: {error})"


class Tars(WebDataset):
    """Reader of `datasets` for tars that goes on after a fault."""

    def _split_generators(self, dl_manager):
        splits = []
        for split, paths in dl_manager.download(self.config.data_files).items():
            # `datasets` divides the lists among its workers and gives other arguments to each of them.
            kwargs = {"tars": list(paths), "download_config": dl_manager.download_config}
            splits.append(datasets.SplitGenerator(name=split, gen_kwargs=kwargs))
        if self.info.features is None:
            self.info.features = _features(
                row
                for split in splits
                for tar in split.gen_kwargs["tars"]
                for row in _open(tar, dl_manager.download_config)
            )
        return splits

    def _generate_shards(self, tars, download_config):
        yield from tars

    def _generate_examples(self, tars, download_config):
        features = self.info.features
        for tar_index, tar in enumerate(tars):
            for index, row in enumerate(_open(tar, download_config)):
                yield Key(tar_index, index), _fitted(row, features)


def _open(tar: str, download_config: datasets.DownloadConfig) -> Iterator[dict[str, Any]]:
    try:
        file = xopen(tar, "rb", download_config=download_config, block_size=0)  # Size 0 reads a stream.
    except OSError as error:
        yield {"__key__": tar, "__url__": tar, ERROR: f"the tar cannot be opened ({type(error).__name__}: {error})"}
        return
    with file:
        yield from read_tar(file, tar)


def _features(rows: Iterator[dict[str, Any]]) -> datasets.Features:
    """Return the columns of the first good rows, in their order."""
    good, faulty = [], None
    for row in rows:
        if row[ERROR] is not None:
            faulty = faulty or row
            continue
        good.append(row)
        if len(good) == _LOOK_AT:
            break
    if not good:
        reason = f": {faulty['__key__']}: {faulty[ERROR]}" if faulty else ""
        raise ValueError(f"no sample in the tars can be read{reason}")
    tables = [pa.Table.from_pylist(cast_to_python_objects([row], only_1d_for_numpy=True)) for row in good]
    features = datasets.Features.from_arrow_schema(pa.concat_tables(tables, promote_options="default").schema)
    for name in features:
        if name.rsplit(".")[-1] in WebDataset.IMAGE_EXTENSIONS:
            features[name] = datasets.Image()
    kept = {"__key__": features.pop("__key__"), "__url__": features.pop("__url__"), ERROR: datasets.Value("string")}
    features.pop(ERROR)
    return datasets.Features({**features, **kept})


def _fitted(row: dict[str, Any], features: datasets.Features) -> dict[str, Any]:
    """Return the row with exactly these columns. A value of another type becomes the row's error."""
    row = {name: row.get(name) for name in features}
    for name, feature in features.items():
        if isinstance(feature, datasets.Image) and row[name] is not None:
            row[name] = {"path": f"{row['__key__']}.{name}", "bytes": row[name]}
            continue
        try:
            if isinstance(feature, datasets.Value) and row[name] is not None:
                feature.encode_example(row[name])
        except (ValueError, TypeError) as error:
            row[name], row[ERROR] = None, f"{name!r} does not fit the other rows ({type(error).__name__}: {error})"
    return row
