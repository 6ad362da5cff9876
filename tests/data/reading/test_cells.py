"""Cells of rows: what counts as an image and as a caption."""

import base64
import os

import pytest
from tar_files import png

from hf_clip_kd.data.reading.cells import CellError, caption_cell, image_cell, locator, picked

PNG = png(3) + bytes(80)  # A short text in base64 could be a name.
CODED = base64.b64encode(PNG).decode()


@pytest.mark.parametrize(
    "value, expected",
    [
        (None, None),
        ("", None),
        ([], None),
        (PNG, {"bytes": PNG, "path": None}),
        ("a b.png", {"bytes": None, "path": "a b.png"}),
        (["a.png"], {"bytes": None, "path": "a.png"}),
        ({"bytes": None, "path": "a.png"}, {"bytes": None, "path": "a.png"}),
        ({"bytes": PNG, "path": "a.png"}, {"bytes": PNG, "path": "a.png"}),
        ({"bytes": CODED}, {"bytes": PNG, "path": None}),
        (CODED, {"bytes": PNG, "path": None}),
        (base64.encodebytes(PNG).decode(), {"bytes": PNG, "path": None}),
        (f"data:image/png;base64,{CODED}", {"bytes": PNG, "path": None}),
        ("data:image/svg+xml,%3Csvg/%3E", {"bytes": b"<svg/>", "path": None}),
        ("file:///data/a%20b.png", {"bytes": None, "path": "/data/a b.png"}),
        ("a%20b.png", {"bytes": None, "path": "a%20b.png"}),
        ("https://x.org/a.png", {"bytes": None, "path": "https://x.org/a.png"}),
    ],
)
def test_images(value, expected):
    assert image_cell(value) == expected


@pytest.mark.parametrize(
    "value, reason",
    [
        (3, "the image is a int: 3"),
        (["a.png", "b.png"], "the image is a list"),
        ({"url": "a.png"}, "the image is a dict"),
        ("data:image/png;base64", "without contents"),
        (f"data:image/png;base64,{CODED}?", r"damaged base64 .*\([\d,]+ characters\)$"),
    ],
)
def test_what_is_no_image_says_why_in_short(value, reason):
    with pytest.raises(CellError, match=reason) as info:
        image_cell(value)
    assert len(str(info.value)) < 200


@pytest.mark.parametrize(
    "value, expected",
    [
        ("007", "007"),
        (7, "7"),
        (2.5, "2.5"),
        (3.0, "3"),
        (float("nan"), None),
        (True, "true"),
        (None, None),
        ("", ""),
        (["a", 2, None], ["a", "2", None]),
        (b"caf\xc3\xa9", "caf\u00e9"),
    ],
)
def test_captions(value, expected):
    assert caption_cell(value) == expected


@pytest.mark.parametrize("value", [{"en": "x"}, [["x"]], "half \ud83d", ["whole", "half \ud83d"]])
def test_what_is_no_caption(value):
    with pytest.raises(CellError, match="the caption (is|holds)"):
        caption_cell(value)


def test_the_first_column_that_a_row_has():
    row = {"a": None, "json": {"b": {"c": 1}, "d": None}, "e.f": 2, "text": ""}
    assert picked(row, ["a", "json.d", "json.b.c", "e.f"]) == ("json.b.c", 1)
    assert picked(row, ["e.f", "text"]) == ("e.f", 2)
    assert picked(row, ["text", "e.f"]) == ("text", "")
    assert picked(row | {"json": [1]}, ["json.b"]) == (None, None)


def test_each_path_starts_where_its_picture_lies(tmp_path, monkeypatch):
    for name in ("lists/both.png", "lists/inside.png", "here/both.png", "here/only.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path / "here")
    locate = locator(str(tmp_path / "lists"))
    expected = {
        "both.png": "lists/both.png",
        "inside.png": "lists/inside.png",
        "only.png": "here/only.png",
        "nowhere.png": "lists/nowhere.png",
    }
    assert {name: os.path.relpath(locate(name), tmp_path) for name in expected} == expected
    assert [locate(path) for path in ("/a.png", "zip://a.png::b.zip")] == ["/a.png", "zip://a.png::b.zip"]
    assert locator(None)("only.png") == "only.png"
