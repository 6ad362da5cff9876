"""Refusal of weights in a zip that would unpack to more than they are. `torch.save` packs nothing."""

from __future__ import annotations

import zipfile
from pathlib import Path


def refuse_zip_bomb(path: Path) -> None:
    """
    Refuse a file of `torch.save` that somebody else has packed: 100 kB may stand for 100 MB.

    Raises:
        ValueError: The parts of the zip are larger than the file, since they are packed or lie in each other.
    """
    if not zipfile.is_zipfile(path):  # Old files are pickles alone, others are of safetensors.
        return
    with zipfile.ZipFile(path) as archive:
        size, there = sum(part.file_size for part in archive.infolist()), path.stat().st_size
    if size > there:
        raise ValueError(
            f"The weights in {str(path)!r} would unpack to {size:,} bytes from {there:,}. Allowed are files that "
            "`torch.save` wrote, which packs nothing. Take the weights from their first source, as safetensors."
        )
