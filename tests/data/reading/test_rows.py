"""Rows that differ from each other in endings, types and columns: each is read, or named and counted alone."""

import io
import itertools
import json
import os
import tarfile

import datasets
import numpy as np
import pytest
from clip_processor import processor
from PIL import Image

from hf_clip_kd.data import CLIPDataCollator, Stream, decode_image, load_image_text
from hf_clip_kd.data.reading.tars import ERROR


def picture(grey, form="PNG"):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (grey,) * 3).save(buffer, form)
    return buffer.getvalue()


def write_tar(path, samples):
    """Write a tar of samples, each a dict of ending and contents, named by their number."""
    with tarfile.open(path, "w") as archive:
        for number, sample in enumerate(samples):
            for ending, data in sample.items():
                data = json.dumps(data) if isinstance(data, dict) else data
                data = data.encode() if isinstance(data, str) else data
                info = tarfile.TarInfo(f"{number:04}.{ending}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return str(path)


def write_lines(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def loaded(*args, **kwargs):
    """Return the rows of a source, which must be the same with and without streaming."""
    rows, streamed = (list(load_image_text(*args, streaming=streaming, **kwargs)) for streaming in (False, True))
    assert [row | {"__index__": i} for i, row in enumerate(streamed)] == rows
    return rows


def greys(rows):
    return [int(np.asarray(decode_image(row["image"]))[0, 0, 0]) for row in rows]


def texts(rows):
    return [row["text"] for row in rows]


def test_pictures_of_all_endings_in_tars(tmp_path):
    kinds = {"JPG": "JPEG", "Jpeg": "JPEG", "png": "PNG", "webp": "WEBP", "tiff": "TIFF", "bmp": "BMP", "GIF": "GIF"}
    samples = [{ending: picture(20 * i, form), "txt": str(i)} for i, (ending, form) in enumerate(kinds.items())]
    for shard, some in enumerate((samples[:1], samples[1:3], samples[3:])):
        write_tar(tmp_path / f"{shard}.tar", some)
    rows = loaded("webdataset", data_files=str(tmp_path / "*.tar"))
    assert np.allclose(greys(rows), [20 * i for i in range(len(kinds))], atol=2)
    assert texts(rows) == list("0123456")
    paths = ["0000.jpg", "0000.jpeg", "0001.png", "0000.webp", "0001.tiff", "0002.bmp", "0003.gif"]
    assert [row["image"]["path"] for row in rows] == paths


def test_two_pictures_in_a_sample(tmp_path):
    samples = [
        {"jpg": picture(10, "JPEG"), "mask.png": picture(200), "txt": "a"},
        {"mask.png": picture(200), "txt": "b"},
    ]
    path = write_tar(tmp_path / "a.tar", samples)
    data = load_image_text(path)
    assert data.features["mask.png"] == datasets.Image() and "jpg" not in data.features
    assert data[0]["image"]["path"] == "0000.jpg" and data[1]["image"] is None
    assert greys(load_image_text(path, image_column="mask.png")) == [200, 200]


ODD = {"width": "n/a", "error": "late", "extra": {"new": [1, {}]}, "big": 2**80, "half": "\ud83d"}


def test_an_odd_field_of_a_json_costs_nothing(tmp_path):
    samples = [{"png": picture(i), "json": {"caption": f"c {i}", "error": None, "width": 40}} for i in range(30)]
    samples[25]["json"] |= ODD
    rows = loaded(write_tar(tmp_path / "a.tar", samples))
    assert texts(rows) == [f"c {i}" for i in range(30)] and greys(rows) == list(range(30))
    assert rows[0]["json"] == samples[0]["json"] and not any(row[ERROR] for row in rows)
    assert rows[25]["json"] == samples[25]["json"] | {"big": str(2**80), "half": ""}


def test_odd_samples_cost_themselves_alone(tmp_path):
    captions = ["a", 7, 2.5, None, {"en": "x"}, "half \ud83d", ["p", 3]]
    samples = [{"png": picture(i), "json": {"caption": caption}} for i, caption in enumerate(captions)]
    samples += [{"png": picture(8)}, {"png": picture(9), "txt": "of a txt"}, {"png": picture(10), "json": "{no json"}]
    rows = loaded(write_tar(tmp_path / "a.tar", samples))
    assert texts(rows) == [["a"], ["7"], ["2.5"], None, None, None, ["p", "3"], None, ["of a txt"], None]
    collator = CLIPDataCollator(processor(), max_broken_fraction=1.0)
    assert len(collator(rows)["pixel_values"]) == 5
    assert [name.partition(": Exp")[0].partition(" (")[::2] for name in collator.broken.names] == [
        ("0003.png", "the row has no caption)"),
        ("0004.png", "the caption is a dict: {'en': 'x'})"),
        ("0005.png", "the caption holds half of a surrogate pair, which is no Unicode: half ?)"),
        ("0007.png", "the row has no caption)"),
        ("0009.png", "'0009.json' cannot be read (JSONDecodeError"),
    ]


def test_a_list_of_captions_that_comes_late_gives_its_first(tmp_path):
    samples = [{"png": picture(0), "json": {"caption": "a"}} for _ in range(25)] + [
        {"png": picture(0), "json": {"caption": ["b", "c"]}}
    ]
    assert texts(loaded(write_tar(tmp_path / "a.tar", samples)))[-2:] == ["a", "b"]


def test_lines_of_json_with_cells_of_all_types(tmp_path):
    rows = [
        {"image": "a.png", "caption": "x", "score": 1, "meta": {"a": 1}},
        {"image": {"path": "b.png"}, "text": ["y", "z"], "score": 0.5, "meta": {"b": "2"}},
        {"filepath": "c.png", "title": 3, "score": "n/a", "meta": None, "only": True},
        {"image": 5, "text": "no image"},
        {"image": "d.png", "text": [["nested"]]},
    ]
    found = loaded(write_lines(tmp_path / "a.jsonl", rows))
    names = [row["image"] and os.path.relpath(row["image"]["path"], tmp_path) for row in found]
    assert names == ["a.png", "b.png", "c.png", None, "d.png"]
    assert texts(found) == [["x"], ["y", "z"], ["3"], ["no image"], None]
    assert [row["score"] for row in found] == [1, 0.5, "n/a", None, None]
    assert [row["meta"] for row in found[:3]] == [{"a": 1}, {"b": "2"}, None]
    assert [row[ERROR] for row in found] == [None] * 3 + ["the image is a int: 5", "the caption is a list: ['nested']"]
    assert found[3]["__key__"] == f"{tmp_path}/a.jsonl, row 3"


def test_a_number_that_does_not_fit_stays_empty_and_is_named(tmp_path, caplog):
    rows = [{"image": "a.png", "text": "x", "score": 1}] * 1000 + [{"image": "a.png", "text": "y", "score": 0.5}] * 2
    data = load_image_text(write_lines(tmp_path / "a.jsonl", rows))
    assert data.features["score"] == datasets.Value("int64")
    assert data["score"][999:] == [1, None, None] and data["text"][1000] == "y"
    assert caplog.text.count("a.jsonl: column 'score' holds 0.5") == 1


def test_tables_differ_in_delimiter_columns_and_folder(tmp_path, monkeypatch):
    tables = {
        "x/a.csv": "filepath,title\np/0.png,NA\n",
        "x/b.csv": f"caption;x;filepath\n1e5;9;p/1.png\nabsolute;9;{tmp_path}/elsewhere.png\n",
        "y/c.tsv": 'filepath\ttitle\np/0.png\t"lone\n../x/p/1.png\t007\nhere/2.png\tNone\n',
        "y/d.jsonl": '{"image": "p/0.png", "text": "json"}',
    }
    (tmp_path / "here").mkdir()
    (tmp_path / "here/2.png").write_bytes(picture(2))
    for name, text in tables.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    found = loaded("csv", data_files=sorted(tables))
    paths = [os.path.relpath(row["image"]["path"], tmp_path) for row in found]
    assert paths == ["x/p/0.png", "x/p/1.png", "elsewhere.png", "y/p/0.png", "x/p/1.png", "here/2.png", "y/p/0.png"]
    assert texts(found) == ["NA", "1e5", "absolute", '"lone', "007", "None", "json"]
    assert [row["x"] for row in found] == [None, "9", "9", None, None, None, None]


def test_the_rows_of_a_stream_are_those_of_the_table(tmp_path):
    """One bad line costs the rest of no file."""
    lines = [json.dumps({"image": f"{i}.png", "text": str(i)}) for i in range(8)]
    lines[1] = lines[1][:-3]
    for shard in range(2):
        (tmp_path / f"{shard}.jsonl").write_text("\n".join(lines[4 * shard : 4 * shard + 4]))
    data = load_image_text("json", data_files=str(tmp_path / "*.jsonl"), streaming=True)
    rows = itertools.takewhile(lambda row: row["__epoch__"] == 0, Stream(data, buffer_size=1))
    rows = sorted(rows, key=lambda row: row["__index__"])
    assert [row["text"] for row in rows] == ["0", None, "2", "3", "4", "5", "6", "7"]
    assert [row["__index__"] for row in rows] == [0, 1, 2, 3, *(2**32 + i for i in range(4))]
    assert rows[1]["__key__"] == f"{tmp_path}/0.jsonl, line 2" and "not JSON" in rows[1][ERROR]


@pytest.mark.parametrize(
    "row, arguments, match",
    [
        ({"image": "a", "text": {"a": 1}}, {}, r"`text_column='text'` holds \{'a': 1\}.*strings.*\['image', 'text'\]"),
        ({"image": 5, "text": "a"}, {}, r"`image_column='image'` holds 5.*images.*`image_column=\.\.\.`"),
        ({"image": "a", "meta": {"c": 1}}, {"text_column": "meta.d"}, r"`text_column='meta.d'` is not a column"),
    ],
)
def test_columns_that_no_row_has(tmp_path, row, arguments, match):
    path = write_lines(tmp_path / "a.jsonl", [row] * 3)
    for streaming in (False, True):
        with pytest.raises(ValueError, match=match):
            load_image_text(path, streaming=streaming, **arguments)


def test_a_file_without_a_good_row_names_its_first_line(tmp_path):
    (tmp_path / "a.jsonl").write_text("no json\nnor this")
    with pytest.raises(ValueError, match=r"a\.jsonl, line 1: the line is not JSON.*Repair or leave out the file"):
        load_image_text(str(tmp_path / "a.jsonl"))


def test_captions_that_do_not_fit_their_column_are_named(tmp_path, caplog):
    """The first rows of a tar hold a caption each. A later list of captions does not fit the column."""
    rows = [{"png": picture(0), "json": {"caption": f"c {i}"}} for i in range(30)]
    rows[25]["json"]["caption"] = ["first", "second"]
    data = load_image_text(write_tar(tmp_path / "a.tar", rows))
    assert len(data) == 30 and data["text"][25] == "first"
    assert "['first', 'second'], where the first rows hold a single text. Only the first counts." in caplog.text
