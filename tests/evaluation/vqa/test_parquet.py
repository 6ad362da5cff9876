"""Parquet files: their rows in order, their pictures as files, and every fault with its row."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from vqa_benchmarks import parquet, picture

from hf_clip_kd.evaluation.vqa.files import Source
from hf_clip_kd.evaluation.vqa.parquet import joined, parquet_rows, picture_bytes, stored_picture
from hf_clip_kd.recipe_io.foreign import ForeignFileError


def rows(path, pattern="test*.parquet"):
    return parquet_rows(Source(path, "It must be a file.", "read('x')"), pattern)


def test_rows_of_a_folder_come_by_file_and_number(tmp_path):
    parquet(tmp_path / "b" / "test-0.parquet", {"x": 2})
    parquet(tmp_path / "a" / "test-1.parquet", *({"x": i} for i in range(70)))
    parquet(tmp_path / "a" / "train-0.parquet", {"x": 3})
    found = [(source.path.name, where, row["x"]) for source, where, row in rows(tmp_path)]
    assert found == [("test-1.parquet", f"row {i}", i) for i in range(70)] + [("test-0.parquet", "row 0", 2)]
    assert [row for _, _, row in rows(tmp_path / "a/train-0.parquet")] == [{"x": 3}]


def test_a_picture_may_stand_bare(tmp_path):
    source = Source(tmp_path / "x.parquet", "It must be a file.", "read('x')")
    for cell in (b"png", {"bytes": b"png", "path": None}):
        assert picture_bytes(source, {"image": cell}, "image", "row 0") == b"png"


def test_equal_pictures_are_one_file(tmp_path):
    red, blue = picture("red")["bytes"], picture("blue")["bytes"]
    paths = [stored_picture(data, tmp_path / "images") for data in (red, blue, red)]
    assert paths[0] == paths[2] != paths[1]
    assert [Path(path).read_bytes() for path in paths] == [red, blue, red]


def test_images_stand_in_a_row_on_black():
    whole = np.array(
        Image.open(io.BytesIO(joined([picture("red", (4, 4))["bytes"], picture("blue", (2, 8))["bytes"]])))
    )
    expected = np.zeros((8, 16, 3), np.uint8)
    expected[2:6, :4, 0] = 255
    expected[:, 14:, 2] = 255
    assert (whole == expected).all()


def test_what_is_no_file_is_named(tmp_path):
    with pytest.raises(ForeignFileError, match=r"nowhere: there is no such file, or no test\*.parquet in the folder"):
        list(rows(tmp_path / "nowhere"))
    with pytest.raises(ForeignFileError, match=r"or no test\*.parquet in the folder. It must be a file"):
        list(rows(tmp_path))
    (tmp_path / "test.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(ForeignFileError, match="test.parquet: it cannot be read"):
        list(rows(tmp_path))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, r"row 0 has no \['image'\]"),
        ({"image": "x.png"}, "`image` of row 0 is a text"),
        ({"image": {"bytes": None}}, "`bytes` of row 0, `image` is null"),
    ],
)
def test_a_row_without_a_picture_is_named(row, message, tmp_path):
    source = Source(tmp_path / "x.parquet", "It must be a file.", "read('x')")
    with pytest.raises(ForeignFileError, match=f"x.parquet.*{message}"):
        picture_bytes(source, row, "image", "row 0")
