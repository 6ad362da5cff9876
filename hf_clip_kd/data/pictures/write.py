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
from .sets import CLASSES, TRAIN

SHARD = 1000
"""Number of pictures in a tar."""

INDEX = "pictures.jsonl"


def write_sets(sets: dict[str, list[Picture]], folder: Path, max_side: int | None = None) -> str:
    """
    Write the sets into a folder. Sets of an earlier call are replaced, and other files stay.

    - `train/` and `SET/test/` are image folders: pictures, and `metadata.jsonl` with `file_name`, `text`, `name`,
      `category`, `source` and `licence`. `text` is a list of captions in `train`, and the fullest caption elsewhere.
    - `train.csv` has the columns `filepath` and `title`.
    - `train-00000.tar` and so on are WebDataset: 1,000 pictures each, in an order that follows from their names.
    - `style.json` and so on list the classes of the sets for zero-shot classification.
    - `pictures.jsonl` lists all pictures: `image` (path from `folder`), `set`, `name`, `captions`, `category`,
      `source`, `licence`, `photograph`, and `sha256` of the file in its package. It is written last.

    Args:
        sets (`dict[str, list[Picture]]`): Pictures of each set, from [`divide`].
        folder (`Path`): Folder to write to.
        max_side (`int`, *optional*):
            Longest side in pixels. Larger pictures are made smaller. By default all pictures are as they are.

    Returns:
        `str`: SHA-256 of `pictures.jsonl`. It depends on the packages, and on no version of a library.
    """
    index = []
    for name, pictures in sets.items():
        _write_folder(name, pictures, folder, max_side)
        if name in CLASSES:
            classes = sorted({getattr(picture, CLASSES[name]) for picture in pictures})
            write_whole(folder / f"{name}.json", json.dumps(classes, ensure_ascii=False, indent=1) + "\n")
        index += [_index_row(picture, name) for picture in pictures]
    _write_csv(sets[TRAIN], folder)
    _write_tars(sets[TRAIN], folder)
    text = _lines(index)
    write_whole(folder / INDEX, text)
    return hashlib.sha256(text.encode()).hexdigest()


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
    shutil.rmtree(temporary, ignore_errors=True)
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
    shutil.rmtree(folder / name, ignore_errors=True)
    os.replace(temporary, folder / name)


def _facts(picture: Picture) -> dict[str, str]:
    return {key: getattr(picture, key) for key in ("name", "category", "source", "licence")}


def _index_row(picture: Picture, name: str) -> dict:
    path = f"{_place(name)}/{picture.file}"
    row = {"image": path, "set": name, "captions": picture.captions} | _facts(picture)
    return row | {"photograph": picture.photograph, "sha256": picture.digest()}


def _lines(rows: list[dict]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write_csv(pictures: list[Picture], folder: Path) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["filepath", "title"])
    table.writerows([f"{TRAIN}/{picture.file}", picture.captions[-1]] for picture in pictures)
    write_whole(folder / f"{TRAIN}.csv", text.getvalue())


def _write_tars(pictures: list[Picture], folder: Path) -> None:
    for old in folder.glob(f"{TRAIN}-*.tar"):
        old.unlink()
    # Pictures of all sources mix in each tar, as a crawler leaves them.
    mixed = sorted(pictures, key=lambda picture: hashlib.sha256(picture.file.encode()).digest())
    for start in range(0, len(mixed), SHARD):
        path = folder / f"{TRAIN}-{start // SHARD:05}.tar"
        temporary = path.with_suffix(".tmp")
        with tarfile.open(temporary, "w") as tar:
            for number, picture in enumerate(mixed[start : start + SHARD], start):
                content = (folder / TRAIN / picture.file).read_bytes()
                facts = json.dumps(_facts(picture), ensure_ascii=False).encode()
                suffix = Path(picture.file).suffix
                for ending, data in ((suffix, content), (".txt", picture.captions[-1].encode()), (".json", facts)):
                    member = tarfile.TarInfo(f"{number:06}{ending}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
        os.replace(temporary, path)
