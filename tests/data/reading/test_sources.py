"""Texts of Parquet and Arrow files that are no UTF-8, which `datasets` takes over unseen."""

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_clip_kd.data import load_image_text, load_instruct

GOOD, BAD = b"a red circle", b"a \xff circle"


def texts(*values):
    """Return a column of strings of any bytes. Arrow makes none from Python."""
    binary = pa.array(values, pa.binary())
    return pa.StringArray.from_buffers(len(values), binary.buffers()[1], binary.buffers()[2])


@pytest.fixture(params=["parquet", "arrow"])
def written(request, tmp_path):
    def write(**columns):
        table = pa.table(columns)
        if request.param == "parquet":
            pq.write_table(table, tmp_path / "a.parquet")
            return str(tmp_path / "a.parquet")
        datasets.Dataset(table).save_to_disk(tmp_path / "saved")
        return str(tmp_path / "saved")

    return write


@pytest.mark.parametrize("bad", ["text", "path"])
def test_a_text_that_is_no_utf_8_is_named(written, bad):
    own = {name: texts(GOOD, BAD if name == bad else GOOD) for name in ("text", "path")}
    pictures = pa.StructArray.from_arrays([pa.array([b"1", b"2"]), own["path"]], ["bytes", "path"])
    path = written(image=pictures, text=own["text"])
    with pytest.raises(ValueError, match=rf"{path}.*could not be loaded.*Invalid UTF8.*Repair or leave out the file"):
        load_image_text(path)


def test_such_a_conversation_is_named(written):
    path = written(question=texts(GOOD, BAD), answer=texts(GOOD, GOOD))
    with pytest.raises(ValueError, match=rf"{path}.*could not be loaded.*Invalid UTF8.*Repair or leave out the file"):
        load_instruct(path)


def test_bytes_may_be_anything(written):
    path = written(image=pa.array([BAD, GOOD]), text=texts(GOOD, GOOD))
    assert len(load_image_text(path)) == 2
