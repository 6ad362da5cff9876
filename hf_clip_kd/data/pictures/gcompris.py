"""Pictures of gcompris: photographs of animals, monuments and tools, and drawings of words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from .picture import Picture, words
from .qt_resources import read_qt_resources

# Archive or folder to category.
_ARCHIVES = {
    "categorization": "",
    "explore_farm_animals": "animals",
    "explore_monuments": "buildings",
    "explore_world_animals": "animals",
    "lang": "",
}
_FOLDERS = {"fishes": "animals", "monuments": "buildings", "tools": "tools"}
_LEFT_OUT = {"alphabets", "numbers"}
# Words for a language lesson are drawn. All other pictures are photographs.
_DRAWN = "lang"


def gcompris(package: Path) -> Iterator[Picture]:
    """
    Read the folder of the package gcompris-qt-data. The name of a picture is that of its file.

    Raises:
        ForeignFileError: if an archive is missing or broken.
    """
    for archive, category in _ARCHIVES.items():
        for path, content in read_qt_resources(package / f"usr/share/gcompris-qt/rcc/{archive}.rcc"):
            inside = PurePosixPath(path.partition("/resource/")[2])
            name = words(inside.stem)
            if inside.suffix != ".webp" or not name or _LEFT_OUT & set(inside.parts):
                continue
            photograph = archive != _DRAWN
            yield Picture(
                f"gcompris/{archive}/{inside}",
                name,
                (f"a photo of {name}" if photograph else name,),
                "AGPL-3+ and CC-BY-SA",
                content,
                category=_FOLDERS.get(inside.parent.name, category),
                photograph=photograph,
            )
