"""Tables of text: quotes, delimiters, encodings, and lines that are not like the others."""

import io
import json

import pytest

from hf_clip_kd.data.reading.tables import read_csv, read_json
from hf_clip_kd.data.reading.tars import ERROR


def table(text, stored_as="utf-8", **options):
    rows = list(read_csv(io.BytesIO(text.encode(stored_as)), "t.csv", **options))
    return [row.get(ERROR) or list(row.values()) for row in rows]


def objects(data, **options):
    data = data if isinstance(data, bytes) else data.encode()
    return [
        (row.get("__key__"), row.get(ERROR)) if ERROR in row else row
        for row in read_json(io.BytesIO(data), "t", **options)
    ]


@pytest.mark.parametrize("mark", "\t,;|")
def test_stray_quotes_swallow_no_row(mark):
    captions = ['"half quoted', 'a 6" pipe', "whole", '"two" words', '"']
    lines = [f"{i}.png{mark}{text}" for i, text in enumerate(captions)]
    expected = [[f"{i}.png", text] for i, text in enumerate(captions)]
    assert table("\n".join([f"filepath{mark}title", *lines])) == expected
    # Another lone quote at the end of a line closes nothing.
    lines.append(f'5.png{mark}so 6"')
    assert table("\n".join([f"filepath{mark}title", *lines, ""])) == [*expected, ["5.png", 'so 6"']]


@pytest.mark.parametrize("mark", "\t,;|")
def test_quoted_cells_of_several_lines(mark):
    text = (
        f'filepath{mark}title{mark}x\n0.png{mark}"he said ""hi""\nand{mark} went, \n"{mark}1\n1.png{mark}b{mark}"2"\n'
    )
    if mark == "\t":  # A line with all tabs would be a row.
        text = text.replace("and\t", "and")
    caption = 'he said "hi"\nand' + ("" if mark == "\t" else mark) + " went, \n"
    assert table(text) == [["0.png", caption, "1"], ["1.png", "b", "2"]]


def test_lines_that_are_no_rows_are_named():
    rows = list(read_csv(io.BytesIO(b"filepath,title\n\n0.png,a,b\n1.png\n2.png,c,\n"), "t.csv"))
    assert rows[0] == {"__key__": "t.csv, line 3", ERROR: "it has 3 cells and the header 2: 0.png,a,b"}
    assert rows[1:] == [{"filepath": "1.png"}, {"filepath": "2.png", "title": "c"}]
    with pytest.raises(ValueError, match="'t.csv' has no header line"):
        table("\n \n")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_that_the_file_tells(encoding):
    assert table("filepath,title\r\n0.png,caf\u00e9\r\n", encoding) == [["0.png", "caf\u00e9"]]


def test_another_encoding_is_named(caplog):
    text = "filepath,title\n0.png,a\n1.png,caf\u00e9\n2.png,\u00e9\n"
    assert table(text, "latin-1") == [["0.png", "a"], ["1.png", "caf\ufffd"], ["2.png", "\ufffd"]]
    assert caplog.text.count("t.csv, line 3 is not utf-8.") == 1 == caplog.text.count("encoding=")
    assert table(text, "latin-1", encoding="latin-1")[1] == ["1.png", "caf\u00e9"]


def test_names_of_columns():
    text = ",title,title\n0,a,b\n"
    assert next(read_csv(io.BytesIO(text.encode()), "t")) == {"Unnamed: 0": "0", "title": "a", "title.2": "b"}
    assert table("a|b;c\n1|2;3\n", delimiter="|") == [["1", "2;3"]]


ROWS = [{"a": 1}, {"a": "\u2028"}, {"a": {"b": None}}]


@pytest.mark.parametrize(
    "data",
    [
        "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS),
        "\ufeff\n" + "\n\n".join(map(json.dumps, ROWS)) + "\n",
        json.dumps(ROWS),
        json.dumps(ROWS, indent=1),
        "\n".join(map(json.dumps, ROWS)).encode("utf-16"),
    ],
    ids="lines bom list indented utf-16".split(),
)
def test_forms_of_json(data):
    assert objects(data) == ROWS
    assert objects(json.dumps({"data": ROWS, "other": 1}, indent=1), field="data") == ROWS


def test_other_forms_of_json():
    assert objects('["a", "b"]') == [{"text": "a"}, {"text": "b"}]
    assert objects('{\n"a": 1\n}') == [{"a": 1}]
    assert objects("") == []
    with pytest.raises(ValueError, match="'t' is not JSON"):
        objects("[1, ")


@pytest.mark.parametrize("bad", ['{"a": 1', "caf\u00e9", "[2]", '"text', '{"a": ' + "[" * 100_000])
def test_a_bad_line_is_named_and_costs_itself(bad):
    for number in (1, 2):
        lines = ['{"a": 1}', '{"a": 2}']
        lines.insert(number - 1, bad)
        *good, (key, reason) = sorted(objects("\n".join(lines)), key=lambda row: isinstance(row, tuple))
        assert good == [{"a": 1}, {"a": 2}]
        assert key == f"t, line {number}" and reason.startswith(("the line is not JSON", "it is no object"))
