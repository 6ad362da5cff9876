"""Files of the sets: image folders, CSV and tars, and an index of all pictures."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import tarfile
from pathlib import Path

from PIL import Image

from ...recipe_io.results import write_whole
from ..reading.images import MAX_PIXELS
from .picture import Picture
from .sets import CLASSES, NAMES, TRAIN

SHARD = 1000
"""Number of pictures in a tar."""

INDEX = "pictures.jsonl"
UNFINISHED = f"{INDEX}.unfinished"
"""File of a folder whose sets are being written."""

_DIGITS = "[0-9]" * 5


def write_sets(sets: dict[str, list[Picture]], folder: Path, max_side: int | None = None) -> str:
    """
    Write the sets into a folder. Sets of an earlier call are replaced, and other files stay.

    - `train/` and `SET/test/` are image folders: pictures, and `metadata.jsonl` with `file_name`, `text`, `name`,
      `category`, `source` and `licence`. `text` is a list of captions in `train`, and the fullest caption elsewhere.
    - `SET.csv` has the columns `filepath`, `title` (the fullest caption), `name` and `category`.
    - `SET-00000.tar` and so on are WebDataset: 1,000 pictures each, in an order that follows from their names.
    - `style.json` and so on list the classes of the sets for zero-shot classification.
    - `pictures.jsonl` lists all pictures: `image` (path from `folder`), `set`, `name`, `captions`, `category`,
      `source`, `licence`, `photograph`, and `sha256` of the file in its package. It is written last, and a folder
      with `pictures.jsonl.unfinished` in its place was left by a kill.

    Args:
        sets (`dict[str, list[Picture]]`): Pictures of each set, from [`divide`].
        folder (`Path`): Folder to write to.
        max_side (`int`, *optional*):
            Longest side in pixels. Larger pictures are made smaller. By default all pictures are as they are.

    Returns:
        `str`: SHA-256 of `pictures.jsonl`. It depends on the packages, and on no version of a library.

    Raises:
        ValueError: if the folder holds files of such names that are no earlier call's, see [`check_folder`].
    """
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / UNFINISHED, "")
    (folder / INDEX).unlink(missing_ok=True)
    _remove_old(folder)
    index = []
    for name, pictures in sets.items():
        _write_folder(name, pictures, folder, max_side)
        if name in CLASSES:
            classes = sorted({getattr(picture, CLASSES[name]) for picture in pictures})
            write_whole(folder / f"{name}.json", json.dumps(classes, ensure_ascii=False, indent=1) + "\n")
        _write_csv(name, pictures, folder)
        _write_tars(name, pictures, folder)
        index += [_index_row(picture, name) for picture in pictures]
    text = _lines(index)
    write_whole(folder / INDEX, text)
    (folder / UNFINISHED).unlink()
    return hashlib.sha256(text.encode()).hexdigest()


def check_folder(folder: Path) -> None:
    """
    Check that sets written into a folder replace nothing but sets.

    Raises:
        ValueError: if something has the name of a set, and no index of an earlier call lies beside it.
    """
    if not any((folder / name).exists() for name in (INDEX, UNFINISHED)) and (there := _written(folder)):
        raise ValueError(
            f"{str(folder)!r} holds {there[0].name!r}, which sets would replace, and no {INDEX} of an earlier call. "
            "The folder must be new, or one of this command. Name another, or move the files away."
        )


def _written(folder: Path) -> list[Path]:
    """Return what an earlier call left, killed or not, all but the index."""
    endings = ("", ".csv", f"-{_DIGITS}.tar", ".tmp", ".*.tmp", f"-{_DIGITS}.tmp")
    names = [f"{name}{ending}" for name in NAMES for ending in endings] + [f"{name}.json" for name in CLASSES]
    return [path for name in names for path in sorted(folder.glob(name))]


def _remove_old(folder: Path) -> None:
    for path in [*_written(folder), *folder.glob(f"{INDEX}*.tmp")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def smaller(content: bytes, max_side: int) -> bytes:
    """
    Return a picture file with no side longer than `max_side` pixels, in the same format and with its transparency.

    A picture that is small enough is returned as it is. So is one of more than [`MAX_PIXELS`].
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            kind = image.format
            if max(image.size) <= max_side or image.width * image.height > MAX_PIXELS:
                return content
            made = image if image.mode in ("L", "LA", "RGB", "RGBA") else image.convert("RGBA")
            made.thumbnail((max_side, max_side), reducing_gap=3.0)
    except Image.DecompressionBombError:
        return content
    file = io.BytesIO()
    made.save(file, kind)
    return file.getvalue()


def _place(name: str) -> str:
    # `datasets` reads the folder `test` as the split of that name.
    return name if name == TRAIN else f"{name}/test"


def _write_folder(name: str, pictures: list[Picture], folder: Path, max_side: int | None) -> None:
    temporary = folder / f"{name}.tmp"
    inside = temporary / Path(_place(name)).relative_to(name)
    rows = []
    for picture in pictures:
        path = inside / picture.file
        path.parent.mkdir(parents=True, exist_ok=True)
        content = picture.encoded()
        path.write_bytes(content if max_side is None else smaller(content, max_side))
        text = picture.captions if name == TRAIN else picture.captions[-1]
        rows.append({"file_name": picture.file, "text": text} | _facts(picture))
    write_whole(inside / "metadata.jsonl", _lines(rows))
    os.replace(temporary, folder / name)


def _facts(picture: Picture) -> dict[str, str]:
    return {key: getattr(picture, key) for key in ("name", "category", "source", "licence")}


def _index_row(picture: Picture, name: str) -> dict:
    path = f"{_place(name)}/{picture.file}"
    row = {"image": path, "set": name, "captions": picture.captions} | _facts(picture)
    return row | {"photograph": picture.photograph, "sha256": picture.digest()}


def _lines(rows: list[dict]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write_csv(name: str, pictures: list[Picture], folder: Path) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["filepath", "title", "name", "category"])
    table.writerows(
        [f"{_place(name)}/{picture.file}", picture.captions[-1], picture.name, picture.category]
        for picture in pictures
    )
    write_whole(folder / f"{name}.csv", text.getvalue())


def _write_tars(name: str, pictures: list[Picture], folder: Path) -> None:
    # Pictures of all sources mix in each tar, as a crawler leaves them.
    mixed = sorted(pictures, key=lambda picture: hashlib.sha256(picture.file.encode()).digest())
    for start in range(0, len(mixed), SHARD):
        path = folder / f"{name}-{start // SHARD:05}.tar"
        temporary = path.with_suffix(".tmp")
        with tarfile.open(temporary, "w") as tar:
            for number, picture in enumerate(mixed[start : start + SHARD], start):
                content = (folder / _place(name) / picture.file).read_bytes()
                facts = json.dumps(_facts(picture), ensure_ascii=False).encode()
                suffix = Path(picture.file).suffix
                for ending, data in ((suffix, content), (".txt", picture.captions[-1].encode()), (".json", facts)):
                    member = tarfile.TarInfo(f"{number:06}{ending}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
        os.replace(temporary, path)
