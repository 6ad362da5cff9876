"""Emoji in four styles, with the names and tags of Unicode's CLDR."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...recipe_io.foreign import ForeignFileError, read_text
from .noto import NotoBitmaps
from .picture import Picture, captions_of, category_of

_COLUMNS = ("hexcode", "group", "subgroups", "annotation", "tags", "skintone")
_CATEGORIES = {
    "animals-nature/animal": "animals",
    "animals-nature/plant": "plants",
    "flags": "flags",
    "food-drink": "food",
    "people-body": "people",
    "smileys-emotion/face": "smileys",
}


@dataclass(frozen=True)
class Emoji:
    """
    Emoji, whoever draws it.

    Attributes:
        code (`str`): Code points in capital hexadecimal letters, joined by `-`.
        name (`str`): Name in lower case.
        captions (`tuple[str, ...]`): The name, and the name with tags.
        category (`str`): Kind of the thing, or empty.
    """

    code: str
    name: str
    captions: tuple[str, ...]
    category: str


def emoji(openmoji: Path, twitter: Path, fluent: Path, noto: Path) -> Iterator[Picture]:
    """
    Read each emoji without a skin tone, as drawn by OpenMoji, Twitter, Fluent and Noto.

    Args:
        openmoji, twitter, fluent (`Path`):
            Folders of the packages openmoji, emoji-datasource-twitter and fluentui-emoji.
        noto (`Path`): Folder of the package fonts-noto-color-emoji.

    Raises:
        ForeignFileError: if OpenMoji's table of names is not as expected.
    """
    bitmaps = NotoBitmaps(noto / "usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
    flat = {_letters(path.stem): path for path in sorted((fluent / "icons/flat").glob("*.svg"))}
    for each in read_emoji(openmoji / "data/openmoji.csv"):
        code = each.code.lower()
        spellings = [twitter / f"img/twitter/64/{name}.png" for name in (code, code.replace("-fe0f", ""))]
        drawn = {
            "noto": (bitmaps.find([int(point, 16) for point in code.split("-")]), "OFL-1.1"),
            "twemoji": (_existing(*spellings), "CC-BY-4.0"),
            "openmoji": (_existing(openmoji / f"color/svg/{each.code}.svg"), "CC-BY-SA-4.0"),
            "fluent": (flat.get(_letters(each.name)), "MIT"),
        }
        for source, (packaged, licence) in drawn.items():
            if packaged is not None:
                file = f"{source}/{each.code}.png"
                yield Picture(file, each.name, each.captions, licence, packaged, each.category)


def read_emoji(table: Path) -> list[Emoji]:
    """
    Read the names of emoji from OpenMoji's `openmoji.csv`, without skin tones and OpenMoji's own additions.

    Raises:
        ForeignFileError: if the file is no such table.
    """
    words = {"allowed": f"It must be OpenMoji's table with {', '.join(_COLUMNS)}.", "fix": "Unpack openmoji anew."}
    rows = csv.DictReader(io.StringIO(read_text(table, **words)))
    if missing := set(_COLUMNS) - set(rows.fieldnames or ()):
        raise ForeignFileError(table, f"it has no column {min(missing)}", **words)
    found = []
    for row in rows:
        code, group, subgroup, title, tags, tone = (row[column] or "" for column in _COLUMNS)
        if tone or group.startswith("extras"):
            continue
        if not re.fullmatch(r"[0-9A-F]{2,6}(-[0-9A-F]{2,6})*", code):
            raise ForeignFileError(table, f"it has the code {code!r}", where=f"line {rows.line_num}", **words)
        name = re.sub(r"[:“”’]", "", title).strip().lower()
        category = category_of(f"{group}/{subgroup}", _CATEGORIES)
        found.append(Emoji(code, name, captions_of(name, [tag.strip() for tag in tags.split(",")]), category))
    return found


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _existing(*paths: Path) -> Path | None:
    return next((path for path in paths if path.is_file()), None)
