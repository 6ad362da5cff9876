"""Rows of a benchmark's parquet files, and their pictures as files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from ...recipe_io.results import write_whole
from .files import Source

_ROWS_AT_ONCE = 64


def parquet_rows(whole: Source, pattern: str) -> Iterator[tuple[Source, str, dict]]:
    """
    Read the rows of a parquet file, or of all below a folder, in the order of their paths.

    Args:
        whole ([`Source`]): File, or folder.
        pattern (`str`): Names of the files in a folder: `"val*.parquet"`.

    Yields:
        `tuple[Source, str, dict]`: the file, the place of the row, such as `"row 3"`, and the row.

    Raises:
        ForeignFileError: if there is no such file, or it cannot be read.
    """
    import pyarrow
    import pyarrow.parquet

    files = sorted(whole.path.glob(f"**/{pattern}")) if whole.path.is_dir() else [whole.path]
    if not files or not all(file.is_file() for file in files):
        raise whole.error(f"there is no such file, or no {pattern} in the folder")
    for file in files:
        source, number = Source(file, whole.form, whole.call), 0
        try:
            for batch in pyarrow.parquet.ParquetFile(file).iter_batches(_ROWS_AT_ONCE):
                for row in batch.to_pylist():
                    yield source, f"row {number}", row
                    number += 1
        except (pyarrow.ArrowException, OSError) as error:
            raise source.error(f"it cannot be read ({error})") from error


def picture_bytes(source: Source, row: dict, column: str, where: str) -> bytes:
    """
    Return the file of a picture that a row holds, as `{"bytes", "path"}` or bare.

    Raises:
        ForeignFileError: if the column has no such value.
    """
    (cell,) = source.fields(row, where, **{column: dict | bytes})
    return cell if isinstance(cell, bytes) else source.fields(cell, f"{where}, `{column}`", bytes=bytes)[0]


def stored_picture(data: bytes, image_folder: str | Path) -> str:
    """
    Write the file of a picture to `image_folder`, unless it is there, and return its path.

    The name is a hash of the content, so questions about one picture share it. The ending is `.png` whatever the
    content, which alone Pillow looks at.
    """
    path = Path(image_folder) / f"{hashlib.sha256(data).hexdigest()[:16]}.png"
    if not path.is_file():
        write_whole(path, data)
    return str(path)
