"""Emoji of a font with bitmaps: single characters, ligatures, and those that it lacks."""

from picture_packages import font

from hf_clip_kd.data.pictures.noto import NotoBitmaps


def test_bitmaps_are_found_by_code_points(tmp_path):
    path = tmp_path / "font.ttf"
    characters = {0x1F408: "cat", 0x1F1E9: "d", 0x1F1EA: "e"}
    path.write_bytes(font(characters, {("d", "e"): "germany"}, {"cat": b"a PNG", "germany": b"another"}))
    bitmaps = NotoBitmaps(path)
    assert bitmaps.find([0x1F408]) == bitmaps.find([0x1F408, 0xFE0F]) == b"a PNG"
    assert bitmaps.find([0x1F1E9, 0x1F1EA]) == b"another"
    for missing in ([0x1F1EA, 0x1F1E9], [0x1F1E9], [0x1F600], [0x1F408, 0x1F600]):
        assert bitmaps.find(missing) is None
