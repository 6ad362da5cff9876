"""Small copies of pictures: as large as the room allows, and what they show stays."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from hf_clip_kd.study.browse.pictures import SIDES, shrunk, small_pictures


def noise(name):
    pixels = np.random.default_rng(int(name)).integers(0, 255, (150, 200, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def opened(copy):
    data = base64.b64decode(copy.uri.removeprefix("data:image/webp;base64,"), validate=True)
    return Image.open(io.BytesIO(data)).convert("RGB")


def test_a_drawn_picture_keeps_its_pixels():
    picture = noise(0).resize((32, 24))
    copy = shrunk(picture, 448)
    assert (copy.width, copy.height) == (32, 24)
    np.testing.assert_array_equal(opened(copy), picture)


def test_a_photograph_keeps_its_shape_and_is_never_enlarged():
    assert (shrunk(noise(0), 128).width, shrunk(noise(0), 128).height) == (128, 96)
    assert opened(shrunk(noise(0), 448)).size == (200, 150)


def test_pictures_are_as_large_as_the_room_allows():
    names = [str(number) for number in range(4)]
    sides = []
    for room in (10**6, 3 * 10**4, 7 * 10**3):
        copies = small_pictures(names, noise, room)
        assert list(copies) == names and sum(len(copy.uri) for copy in copies.values()) <= room
        sides.append(copies["0"].width)
    assert sides == sorted(sides, reverse=True) and sides[0] == 200 and set(sides[1:]) <= set(SIDES) | {200}
    assert len(set(sides)) > 2


def test_pictures_that_are_not_there_or_do_not_fit():
    copies = small_pictures(["0", "1"], lambda name: noise(name) if name == "1" else None, 10**6)
    assert list(copies) == ["1"]
    assert small_pictures([], noise, 10) == {}
    with pytest.raises(ValueError, match="2 pictures do not fit into 100 bytes.*--max_questions"):
        small_pictures(["0", "1"], noise, 100)
