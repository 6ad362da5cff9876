"""Words of titles and files' names, captions, and pictures drawn from SVG."""

import hashlib

import pytest
from picture_packages import draw_with_stub, drawing

from hf_clip_kd.data.pictures.picture import Picture, captions_of, category_of, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bigBlue_cat-01", "big blue cat"),
        ("Cat (b&w) 2.png", "cat b w png"),
        ("people's choice", "people's choice"),
        ("hammer12", "hammer"),
        ("eiffelTower", "eiffel tower"),
        ("über_Straße", "über straße"),
        ("007", ""),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


def test_captions_hold_new_words_only():
    assert captions_of("red apple", ["apple", "fruit", "", "fruit", "food"]) == ("red apple", "red apple, fruit, food")
    assert captions_of("cat", ["cat"]) == ("cat",)
    assert captions_of("a", list("bcdefg"))[1] == "a, b, c, d, e"


def test_the_first_category_that_begins_a_place_counts():
    categories = {"signs/flags": "flags", "signs": "signs"}
    found = [category_of(place, categories) for place in ("signs/flags/a", "signs/b", "x/signs")]
    assert found == ["flags", "signs", ""]


def test_svg_is_drawn_and_its_digest_is_that_of_the_package(tmp_path, monkeypatch):
    draw_with_stub(monkeypatch)
    path = tmp_path / "a.svg"
    path.write_bytes(b"<svg/>")
    picture = Picture("fluent/a.png", "a", ("a",), "MIT", path)
    assert picture.encoded().startswith(b"\x89PNG") and picture.source == "fluent"
    assert picture.digest() == hashlib.sha256(b"<svg/>").hexdigest()
    png = Picture("noto/a.png", "a", ("a",), "MIT", drawing())
    assert png.encoded() == png.content() == drawing()
