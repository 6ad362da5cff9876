"""Cases of compositional tests: pictures with captions that differ in few words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...data.reading.images import BrokenImageError, decode_image
from ...recipe_io.foreign import ForeignFileError

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Case:
    """One or two pictures, and captions of which each picture has one."""

    images: tuple[Any, ...] = field(metadata={"help": "Pictures as `decode_image` takes them, most often paths."})
    captions: tuple[str, ...] = field(
        metadata={"help": "Caption i is that of picture i. Further captions are true of no picture."}
    )
    category: str = field(default="", metadata={"help": "Group that is reported separately."})
    box: Box | None = field(
        default=None, metadata={"help": "Left, top, right and bottom in pixels: the part of a picture that is shown."}
    )

    def keys(self) -> list[tuple[Any, Box | None]]:
        """Return a key for each picture. Equal keys stand for the same picture."""
        return [(image if isinstance(image, str) else id(image), self.box) for image in self.images]


class Pictures(Sequence):
    """
    Parts of pictures, opened when they are asked for.

    Args:
        parts (sequence of tuples): Picture as [`decode_image`] takes it, and the box that is shown, or `None`.
    """

    def __init__(self, parts: Sequence[tuple[Any, Box | None]]):
        self.parts = parts

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [_shown(*part) for part in self.parts[index]]
        return _shown(*self.parts[index])


def _shown(image: Any, box: Box | None) -> Any:
    """Return the part of a picture. The encoder meets a broken file itself, and names it."""
    if box is None:
        return image
    try:
        return decode_image(image).crop(box)
    except BrokenImageError:
        return image


def check_images(cases: list[Case], path: Path, image_folder: str | Path, **words: str) -> list[Case]:
    """
    Return the cases unchanged.

    Args:
        cases (`list` of [`Case`]): Cases of a benchmark, whose pictures are paths.
        path (`Path`): File of the cases, for errors.
        image_folder (`str` or `Path`): Folder that the pictures were looked for in.
        words (`str`): `allowed` and `fix` of [`read_json`].

    Raises:
        ForeignFileError: There is no case.
        ValueError: A picture is no file.
    """
    if not cases:
        raise ForeignFileError(path, "it holds no case", **words)
    check_files([image for case in cases for image in case.images], path, image_folder)
    return cases


def check_files(images: Iterable[str], path: Path, image_folder: str | Path) -> None:
    """Raise a `ValueError` if a picture that the file `path` names is not in the folder."""
    files = list(dict.fromkeys(images))
    missing = [file for file in files if not Path(file).is_file()]
    if missing:
        raise ValueError(
            f"`image_folder={str(image_folder)!r}` lacks {len(missing)} of {len(files)} pictures that {path} names, "
            f"the first is {missing[0]}. It must be the folder with all of them. Complete it, or pass another."
        )


def first_of_each(cases: list[Case], most: int | None) -> list[Case]:
    """Return at most so many cases in their order: the first of each category, then the second, and so on."""
    turns: Counter[str] = Counter()
    places = []
    for position, case in enumerate(cases):
        places.append((turns[case.category], position))
        turns[case.category] += 1
    return [cases[position] for position in sorted(position for _, position in sorted(places)[:most])]
