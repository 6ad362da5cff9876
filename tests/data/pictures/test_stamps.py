"""Stamps: captions, categories, and photographs among drawings."""

import io

import numpy as np
import pytest
from picture_packages import drawing, photograph, put, write_packages
from PIL import Image

from hf_clip_kd.data.pictures.stamps import equal_neighbours, stamps
from hf_clip_kd.recipe_io.foreign import ForeignFileError


def test_stamps(tmp_path):
    package = write_packages(tmp_path)["tuxpaint-stamps-default"]
    put(package / "usr/share/tuxpaint/stamps/space/no_text.png", drawing())
    bird, sign = stamps(package)
    assert (bird.file, bird.name, bird.captions) == ("stamps/animals/birds/tit.png", "blue tit", ("A blue tit.",))
    assert (bird.category, bird.licence, bird.photograph) == ("animals", "GPL-2", True)
    assert (sign.name, sign.category, sign.photograph) == ("stop sign", "signs", False)


def test_equal_neighbours_by_hand():
    pixels = np.zeros((1, 6, 4), dtype=np.uint8)
    pixels[0, :, 0] = [1, 1, 2, 2, 3, 3]
    pixels[0, :, 3] = [255, 255, 255, 255, 255, 0]
    # Opaque pairs: 1-1, 1-2, 2-2, 2-3. The last pixel is transparent.
    assert equal_neighbours(Image.fromarray(pixels)) == 0.5
    assert equal_neighbours(Image.new("RGBA", (3, 3))) == 1


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P"])
def test_photographs_and_drawings_of_any_mode(mode):
    grey = Image.open(io.BytesIO(photograph())).convert(mode)
    assert equal_neighbours(grey) < 0.06
    assert equal_neighbours(Image.open(io.BytesIO(drawing())).convert(mode)) == 1


def test_a_damaged_stamp_is_named(tmp_path):
    package = write_packages(tmp_path)["tuxpaint-stamps-default"]
    png = package / "usr/share/tuxpaint/stamps/animals/birds/tit.png"
    for content in (b"no picture", png.read_bytes()[:80]):
        png.write_bytes(content)
        with pytest.raises(ForeignFileError, match="tit.png: it cannot be read .*Unpack its package anew"):
            list(stamps(package))
