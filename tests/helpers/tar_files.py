"""Tars of images and captions."""

import io
import itertools
import tarfile

from PIL import Image

SIZES = (6, 7, 3, 9)  # samples in each tar


def png(value):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (value,) * 3).save(buffer, "PNG")
    return buffer.getvalue()


def write_tars(folder, sizes=SIZES, ending="txt", value=str):
    """Write numbered pictures, each with a file of another ending, as many in each tar as `sizes` says."""
    folder.mkdir(parents=True, exist_ok=True)
    number = itertools.count()
    for shard, size in enumerate(sizes):
        with tarfile.open(folder / f"{shard}.tar", "w") as archive:
            for i in itertools.islice(number, size):
                for extension, data in (("png", png(i)), (ending, str(value(i)).encode())):
                    info = tarfile.TarInfo(f"{i:05d}.{extension}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
