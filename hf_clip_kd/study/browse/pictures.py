"""Small copies of pictures, so that thousands of them fit into a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from PIL import Image

# Longest sides in pixels, the best first.
SIDES = (448, 384, 320, 256, 224, 192, 160, 128, 96, 64, 32)
# Drawn pictures of so few pixels lose their colours to compression, and are small without it.
LOSSLESS = 64
# A larger picture of lower quality shows more than a smaller picture of as many bytes.
QUALITY = 50
# Pictures whose size is measured before all are written.
MEASURED = 32


@dataclass(frozen=True)
class SmallPicture:
    """Copy of a picture that a page holds."""

    uri: str = field(metadata={"help": "`data:image/webp;base64,...`."})
    width: int = field(metadata={"help": "Width in pixels."})
    height: int = field(metadata={"help": "Height in pixels."})


def small_pictures(
    names: Sequence[str], load: Callable[[str], Image.Image | None], room: int
) -> dict[str, SmallPicture]:
    """
    Return small copies of pictures, as large as the room allows.

    Args:
        names (`Sequence[str]`): Names of the pictures, each once.
        load (`Callable`): Function from a name to the RGB picture, or to `None` if there is none.
        room (`int`): Number of bytes that all copies may take.

    Returns:
        `dict`: name -> [`SmallPicture`], without the names that have no picture.

    Raises:
        ValueError: The smallest copies are too large for the room.
    """
    side = _first_side(names, load, room)
    for smaller in SIDES[SIDES.index(side) :]:
        copies, total = {}, 0
        for name in names:
            picture = load(name)
            if picture is not None:
                copies[name] = shrunk(picture, smaller)
                total += len(copies[name].uri)
            if total > room:
                break
        else:
            return copies
    raise ValueError(
        f"{len(names):,} pictures do not fit into {max(room, 0):,} bytes, not even with {SIDES[-1]} pixels at the "
        "longest side. A page holds some thousand questions. Pass a smaller `--max_questions`."
    )


def shrunk(picture: Image.Image, side: int) -> SmallPicture:
    """Return a copy whose longest side has at most so many pixels. A small picture keeps its size."""
    copy = picture.copy()
    copy.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    copy.save(buffer, "WEBP", lossless=max(picture.size) <= LOSSLESS, quality=QUALITY)
    return SmallPicture(f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}", *copy.size)


def _first_side(names: Sequence[str], load: Callable[[str], Image.Image | None], room: int) -> int:
    """Return the largest side with which some of the pictures promise that all of them fit."""
    some = names[:: max(1, len(names) // MEASURED)]
    pictures = [picture for picture in map(load, some) if picture is not None]
    for side in SIDES:
        if sum(len(shrunk(picture, side).uri) for picture in pictures) * len(names) <= 0.9 * room * len(some):
            return side
    return SIDES[-1]
