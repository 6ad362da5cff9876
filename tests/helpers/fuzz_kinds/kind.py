"""Kind of files by others, and parts that several kinds share."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from llava_runs import make_model
from PIL import Image


@dataclass(frozen=True)
class Kind:
    group: str = field(metadata={"help": "Row of the table of what the package survives."})
    write: Callable[[Path], None] = field(metadata={"help": "Writes good files into an empty folder."})
    read: Callable[[Path], object] = field(metadata={"help": "Reads that folder, and checks what came out."})
    whole: bool = field(
        default=False, metadata={"help": "True if a file that is cut short is an error, or reads as the whole file."}
    )
    checked: bool = field(default=False, metadata={"help": "True if the files have checksums: no damage goes unseen."})
    by_folder: bool = field(default=False, metadata={"help": "True if an error may name the folder of its files."})
    slow: bool = field(default=False, metadata={"help": "True if a read takes more than a tenth of a second."})
    spared: tuple[str, ...] = field(default=(), metadata={"help": "Endings of files that are not damaged."})


@cache
def png(seed=0):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


_MADE: dict[str, dict[str, bytes]] = {}


def made_once(name, folder, make):
    """Write the files that `make` leaves in an empty folder; the second time from memory."""
    if name not in _MADE:
        with TemporaryDirectory() as temporary:
            made = Path(temporary, name)  # The card of a run names its folder.
            made.mkdir()
            make(made)
            files = [path for path in made.rglob("*") if path.is_file()]
            _MADE[name] = {path.relative_to(made).as_posix(): path.read_bytes() for path in files}
    for place, data in _MADE[name].items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(data)


@cache
def llava():
    return make_model()
