"""Emoji of a font with bitmaps: single characters, ligatures, and those that it lacks."""

import pytest
from picture_packages import font

from hf_clip_kd.data.pictures.noto import NotoBitmaps
from hf_clip_kd.recipe_io.foreign import ForeignFileError


def test_bitmaps_are_found_by_code_points(tmp_path):
    path = tmp_path / "font.ttf"
    characters = {0x1F408: "cat", 0x1F1E9: "d", 0x1F1EA: "e"}
    path.write_bytes(font(characters, {("d", "e"): "germany"}, {"cat": b"a PNG", "germany": b"another"}))
    bitmaps = NotoBitmaps(path)
    assert bitmaps.find([0x1F408]) == bitmaps.find([0x1F408, 0xFE0F]) == b"a PNG"
    assert bitmaps.find([0x1F1E9, 0x1F1EA]) == b"another"
    for missing in ([0x1F1EA, 0x1F1E9], [0x1F1E9], [0x1F600], [0x1F408, 0x1F600]):
        assert bitmaps.find(missing) is None


def test_a_font_without_bitmaps_or_none_is_named(tmp_path):
    path = tmp_path / "font.ttf"
    message = "font.ttf: it cannot be read .*tables CBDT and GSUB.*Unpack the package fonts-noto-color-emoji"
    with pytest.raises(ForeignFileError, match=message):
        NotoBitmaps(path)
    whole = font({0x1F408: "cat"}, {("cat", "cat"): "cats"}, {"cat": b"a PNG"})
    for content in (b"no font", whole.replace(b"CBDT", b"XXXX"), whole.replace(b"GSUB", b"XXXX")):
        path.write_bytes(content)
        with pytest.raises(ForeignFileError, match=message):
            NotoBitmaps(path)
