"""Rows of a benchmark's parquet files, and their pictures as files."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import PIL.Image

from ...data.reading.images import BrokenImageError, decode_image
from ...recipe_io.results import write_whole
from .files import Source

_ROWS_AT_ONCE = 64
# Pixels of black between two pictures in a row, as the script of BLINK's authors has them.
_MARGIN = 10


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
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
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


def joined(pictures: Sequence[bytes]) -> bytes:
    """
    Put images in a row, 10 black pixels between them, and return the file of the whole as PNG.

    Lower images stand in the middle of the height. The authors of [BLINK](https://github.com/zeyofu/BLINK_Benchmark)
    do so for models that take one image.

    Raises:
        BrokenImageError: if an image cannot be read.
    """
    images = [decode_image(data) for data in pictures]
    height = max(image.height for image in images)
    whole = PIL.Image.new("RGB", (sum(image.width + _MARGIN for image in images) - _MARGIN, height))
    left = 0
    for image in images:
        whole.paste(image, (left, (height - image.height) // 2))
        left += image.width + _MARGIN
    file = io.BytesIO()
    whole.save(file, "PNG")
    return file.getvalue()


def stored_row(source: Source, row: dict, columns: Sequence[str], image_folder: str | Path, where: str) -> str:
    """
    Write the pictures in some columns of a row as one file, side by side, and return its path.

    See [`joined`], and [`stored_picture`] for the name. A single picture stays the file that it is.

    Raises:
        ForeignFileError: if a column has no picture, or one of several cannot be read.
    """
    pictures = [picture_bytes(source, row, name, where) for name in columns]
    try:
        picture = joined(pictures) if len(pictures) > 1 else pictures[0]
    except BrokenImageError as error:
        raise source.error(f"an image cannot be read ({error})", where) from error
    return stored_picture(picture, image_folder)
