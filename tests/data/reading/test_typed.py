"""Columns of one type: labels, nested fields and numbers as captions, and files whose columns differ."""

import base64
import datetime
import decimal

import datasets
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from tar_files import png

from hf_clip_kd.data import decode_image, load_image_text

PNG = png(7) + bytes(90)
CODED = base64.b64encode(PNG).decode()


def texts(path, **arguments):
    """Return the captions of a source, which must be the same with and without streaming."""
    found, streamed = (
        [row["text"] for row in load_image_text(str(path), streaming=s, **arguments)] for s in (False, True)
    )
    assert found == streamed
    return found


def test_labels(tmp_path):
    """A label of -1, or beyond the names, is no label."""
    label = ClassLabel(names=["hot_dog", "cat"])
    features = Features({"image": Value("binary"), "label": label, "several": List(label), "nested": {"label": label}})
    columns = {
        "image": [PNG] * 4,
        "label": [0, 1, -1, None],
        "several": [[0, 1], [-1, 1], [], None],
        "nested": [{"label": 1}, {"label": -1}, {"label": None}, None],
    }
    Dataset.from_dict(columns, features=features).save_to_disk(tmp_path)
    dog, cat = "a photo of a hot dog.", "a photo of a cat."
    assert texts(tmp_path, text_column="label") == [dog, cat, None, None]
    assert texts(tmp_path, text_column="several") == [[dog, cat], [None, cat], [], None]
    assert texts(tmp_path, text_column="nested.label") == [cat, None, None, None]


@pytest.mark.parametrize(
    "values, expected",
    [
        ([3, None, 7], ["3", None, "7"]),
        ([3.0, 2.5, None], ["3", "2.5", None]),
        ([True, False, None], ["true", "false", None]),
        ([[1, 2], [], None], [["1", "2"], [], None]),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_numbers(tmp_path, values, expected, nested):
    column = {"json": [{"caption": value} for value in values]} if nested else {"caption": values}
    Dataset.from_dict({"image": [PNG] * 3} | column).save_to_disk(tmp_path)
    assert texts(tmp_path) == expected


def test_a_row_without_the_struct(tmp_path):
    Dataset.from_dict({"image": [PNG] * 2, "json": [{"caption": "a"}, None]}).save_to_disk(tmp_path)
    assert texts(tmp_path) == ["a", None]


@pytest.mark.parametrize("streaming", [False, True])
def test_pictures_in_strings(tmp_path, streaming):
    cells = [
        CODED,
        f"data:image/png;base64,{CODED}",
        f"file://{tmp_path}/a.png",
        "a.png",
        None,
        "data:image/png;base64,?",
    ]
    (tmp_path / "a.png").write_bytes(PNG)
    Dataset.from_dict({"image": cells, "text": ["x"] * 6}).to_parquet(tmp_path / "a.parquet")
    images = [row["image"] for row in load_image_text(str(tmp_path / "a.parquet"), streaming=streaming)]
    assert [decode_image(image).getpixel((0, 0)) for image in images[:4]] == [(7, 7, 7)] * 4
    assert images[4:] == [None, {"bytes": b"", "path": "data:image/png;base64,?"}]


@pytest.mark.parametrize("streaming", [False, True])
def test_parquet_files_with_other_columns_and_folders(tmp_path, streaming):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "p.png").write_bytes(PNG)
    tables = {
        "a.parquet": {"image": [PNG, PNG], "text": ["a", "b"], "width": [1, 2], "only": ["y", "z"]},
        "b.parquet": {"jpg": [{"bytes": PNG, "path": None}], "captions": [["c", "d"]], "width": ["n/a"]},
        "x/c.parquet": {"filepath": ["p.png"], "caption": [5], "width": [None]},
    }
    for name, columns in tables.items():
        Dataset.from_dict(columns).to_parquet(tmp_path / name)
    files = [str(tmp_path / name) for name in tables]
    data = load_image_text("parquet", data_files=files, streaming=streaming)
    rows = list(data)
    assert [row["text"] for row in rows] == [["a"], ["b"], ["c", "d"], ["5"]]
    assert [row["width"] for row in rows] == ["1", "2", "n/a", None]
    assert [row.get("only") for row in rows] == ["y", "z", None, None]
    assert {decode_image(row["image"]).getpixel((0, 0)) for row in rows} == {(7, 7, 7)}
    if streaming:
        assert data.num_shards == 3
    else:
        part = load_image_text("parquet", data_files=files, split="train[25%:75%]", max_samples=2)
        assert part["text"][:] == [["b"], ["c", "d"]] and part["__index__"][:] == [0, 1]


@pytest.mark.parametrize("streaming", [False, True])
def test_dates_and_decimals_become_text(tmp_path, streaming):
    """Columns that nobody asked for ended the reading."""
    day, price = datetime.datetime(2024, 5, 6, 7), decimal.Decimal("1.50")
    tables = {
        "a.parquet": {"image": [PNG], "text": ["a"], "date": ["May"], "price": [2], "seen": ["never"]},
        "b.parquet": {"image": [PNG], "text": ["b"], "date": [day], "price": [price], "seen": [[day, None]]},
    }
    for name, columns in tables.items():
        Dataset.from_dict(columns).to_parquet(tmp_path / name)
    files = [str(tmp_path / name) for name in tables]
    first, second = load_image_text("parquet", data_files=files, streaming=streaming)
    assert [first["date"], first["price"], first["seen"]] == ["May", "2", ["never"]]
    assert [second["date"], second["price"], second["seen"]] == [
        "2024-05-06 07:00:00",
        "1.50",
        ["2024-05-06 07:00:00", None],
    ]
    found = load_image_text(files[1], text_column="seen", streaming=streaming)
    assert [row["text"] for row in found] == [["2024-05-06 07:00:00", None]]


def test_other_types_say_so(tmp_path):
    Dataset.from_dict({"image": [PNG], "text": [{"a": [1]}]}).save_to_disk(tmp_path)
    with pytest.raises(ValueError, match=r"`text_column='text'` holds \{'a'.*numbers or class labels"):
        load_image_text(str(tmp_path))
    assert isinstance(load_image_text(str(tmp_path), text_column="text.a").features["text"], datasets.List)
