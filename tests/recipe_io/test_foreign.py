"""Foreign files: what each type takes, and where an error points to."""

import json

import pytest

from hf_clip_kd.recipe_io.foreign import (
    FieldError,
    ForeignFileError,
    convert,
    decode,
    fields,
    parse_json,
    read_json,
    read_json_lines,
    read_json_samples,
    read_yaml,
)

WORDS = {"allowed": "It must be right.", "fix": "Repair it."}


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("a", str, "a"),
        (3, str, "3"),
        (0.5, str, "0.5"),
        ("-7 ", int, -7),
        (7.0, int, 7),
        (7, float, 7),
        (None, str | None, None),
        (3, int | str, 3),
        ("3", int | str, "3"),
        (3.0, int | str, 3),
        (["a", 2], list[str], ["a", "2"]),
        ([[1]], list[list[str]], [["1"]]),
        ({"a": None}, dict, {"a": None}),
    ],
)
def test_a_value_becomes_its_type_if_nothing_is_lost(value, kind, expected):
    made = convert(value, kind)
    assert made == expected and type(made) is type(expected)


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (None, str, r"is null \(None\), not a text"),
        (True, str, "is true or false .*not a text"),
        (True, int, "is true or false .*not a whole number"),
        (float("inf"), str, "not a text"),
        (0.5, int, "not a whole number"),
        ("9" * 200, int, "not a whole number"),
        ("--3", int, "not a whole number"),
        ("red", list[str], r"is a text \('red'\), not a list"),
        ({"a": 1}, list, "is a dict .*not a list"),
        (["a", ["b"]], list[str], "has an item 1 that is a list .*not a text"),
        ([], dict | None, "is a list .*not a dict"),
    ],
)
def test_a_value_of_another_type_is_refused(value, kind, message):
    with pytest.raises(FieldError, match=message):
        convert(value, kind)


def test_fields_of_a_row():
    assert fields({"a": 1, "b": None}, {"a": str, "b": str | None, "c": int | None}, "f", where="row 1", **WORDS) == [
        "1",
        None,
        None,
    ]
    with pytest.raises(ForeignFileError, match=r"^f: row 1 has no \['a', 'b'\]. It must be right. Repair it.$"):
        fields({}, {"a": str, "b": int, "c": str | None}, "f", where="row 1", **WORDS)
    with pytest.raises(
        ForeignFileError, match="^f: `a` of row 1 is a list .*not a text. It must be right. Repair it.$"
    ):
        fields({"a": []}, {"a": str}, "f", where="row 1", **WORDS)
    with pytest.raises(ForeignFileError, match="^f: row 1 is a list, not a dict with"):
        fields([], {"a": str}, "f", where="row 1", **WORDS)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"a": 1,\n"b": NaN}', "line 2 has NaN"),
        ('{"a": "NaN",\n\n"b": -Infinity}', "line 3 has -Infinity"),
        ('[{"a": 1},\n{"a": 1, "a": 2}]', "sample 1 has the key 'a' twice"),
        ("[1, 2,\n3 4]", "sample 3, line 2 is no JSON"),
        ('["\\ud83d\\ude00",\n"\\ude00"]', "sample 1, line 2 has half of a surrogate pair"),
        ('{"\\ud83d": 1}', "line 1 has half of a surrogate pair"),
        ("[1, " + "[" * 100_000, "sample 1 nests too deep"),
        (f"[{'9' * 5000}]", "sample 0 has a number that is too long"),
        (" ", "it is empty"),
    ],
)
def test_an_error_points_to_its_place(text, place):
    with pytest.raises(ForeignFileError, match=f"^f.json: {place}.*It must be right. Repair it.$"):
        parse_json(text, "f.json", **WORDS)
    with pytest.raises(ForeignFileError, match="^f.tar: member 7 "):
        parse_json(text, "f.tar", where="member 7", **WORDS)


def test_a_literal_backslash_is_no_half():
    text = json.dumps(["\\ud83d", "\N{GRINNING FACE}"])
    assert parse_json(text, "f", **WORDS) == ["\\ud83d", "\N{GRINNING FACE}"]


def test_bytes_of_a_member():
    assert decode("\ufeffa\r\nb\rc\x85\u2028".encode(), "f.tar", **WORDS) == "a\nb\nc\x85\u2028"
    with pytest.raises(ForeignFileError, match="^f.tar, m.txt, line 3: the byte 0xe9 is no UTF-8. .*Save it as UTF-8"):
        decode(b"a\r\nb\r\xe9", "f.tar", where="m.txt", **WORDS)


def test_the_line_of_a_wrong_byte_behind_many_good_ones(tmp_path):
    (tmp_path / "a").write_bytes(b'{"a": 1}\n' * 5000 + b'"\xe9"\n')
    with pytest.raises(ForeignFileError, match="line 5001: the byte 0xe9"):
        list(read_json_lines(tmp_path / "a", **WORDS))


def test_lines_and_lists_are_samples(tmp_path):
    path = tmp_path / "a"
    path.write_text('\n\ufeff{"a": "\u2028"}\r\n\n\ufeff{"a": 2}', newline="")
    assert list(read_json_lines(path, **WORDS)) == [(2, {"a": "\u2028"}), (4, {"a": 2})]
    assert list(read_json_samples(path, **WORDS)) == [{"a": "\u2028"}, {"a": 2}]
    path.write_text('\n[{"a": 1},\n{"a": 2}]')
    assert list(read_json_samples(path, **WORDS)) == [{"a": 1}, {"a": 2}]
    path.write_text("")
    assert list(read_json_samples(path, **WORDS)) == []


def test_the_whole_content_has_a_type(tmp_path):
    (tmp_path / "a").write_text("[]")
    with pytest.raises(ForeignFileError, match="a: it holds a list, not a dict. It must"):
        read_json(tmp_path / "a", **WORDS)
    assert read_json(tmp_path / "a", (list, dict), **WORDS) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: [", "is no valid YAML: line 2"),
        ("a: 2026-13-01", "it has a wrong value"),
        ("a: !!python/object:os.system x", "is no valid YAML: line 1, could not determine a constructor"),
        ('a: 1\nb: "\\ud83d"', "line 2 has half of a surrogate pair"),
        ("- a", "it holds a list, not a dict"),
        ("a: " + "[" * 5000, "it nests too deep"),
    ],
)
def test_yaml(text, message, tmp_path):
    (tmp_path / "a").write_text(text)
    with pytest.raises(ForeignFileError, match=f"a:? {message}"):
        read_yaml(tmp_path / "a", **WORDS)
