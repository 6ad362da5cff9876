"""A fixed share of images, kept apart by the content of their files."""

import hashlib
import os
from pathlib import Path

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value

from hf_clip_kd import load_image_text
from hf_clip_kd.data.held_out import caption_rows, hold_out, one_row_per_image, question_rows, write_parts
from hf_clip_kd.data.shapes import load_shapes


def images(*contents):
    return [{"bytes": content, "path": None} for content in contents]


def made(contents, **columns):
    features = Features({"image": Image(decode=False)})
    table = Dataset.from_dict({"image": images(*contents)}, features=features)
    for name, values in columns.items():
        table = table.add_column(name, values)
    return table


def test_rows_of_one_file_become_one_row():
    rows = one_row_per_image(
        made([b"x", b"y", b"x"], text=["a cat", "a dog", "a cat"], score=[1, 2, 3], kind=[7, 8, 9]),
        first=["kind"],
        lists=["score"],
        distinct=["text"],
    )
    assert rows.remove_columns("image")[:] == {
        "kind": [7, 8],
        "key": [hashlib.sha256(content).hexdigest() for content in (b"x", b"y")],
        "score": [[1, 3], [2]],
        "text": [["a cat"], ["a dog"]],
    }


def test_the_side_of_an_image_depends_on_its_file_alone():
    contents = [bytes([i, j]) for i in range(40) for j in range(50)]
    learned, kept = hold_out(one_row_per_image(made(contents)), 0.25)
    assert len(learned) + len(kept) == 2000 and abs(len(kept) - 500) < 4 * np.sqrt(2000 * 0.25 * 0.75)
    assert not {*learned["key"]} & {*kept["key"]}
    # The key is a number in [0, 1), written in base 16.
    assert all(int(key, 16) / 16**64 < 0.25 for key in kept["key"])
    _, among_fewer = hold_out(one_row_per_image(made(contents[::-3])), 0.25)
    assert {*among_fewer["key"]} <= {*kept["key"]}


def test_files_and_bytes_of_one_picture_are_one_image(tmp_path):
    (tmp_path / "x.png").write_bytes(b"x")
    features = Features({"image": Image(decode=False)})
    cells = [{"bytes": None, "path": str(tmp_path / "x.png")}, *images(b"x")]
    assert len(one_row_per_image(Dataset.from_dict({"image": cells}, features=features))) == 1


def test_rows_without_an_image_are_left_out_up_to_a_share(caplog):
    rows = one_row_per_image(made([bytes([i]) for i in range(1, 40)] + [b""]))
    assert len(rows) == 39 and "Left out: 1 of 40 rows" in caplog.text
    with pytest.raises(ValueError, match="2 of 3 rows have no image"):
        one_row_per_image(made([b"x", b"", b""]))


def test_class_labels_are_found_and_words_become_classes():
    labels = datasets.ClassLabel(names=["cat", "dog"])
    table = made([b"x", b"y"], text=["a cat", ""]).add_column("label", [0, 1], feature=labels)
    assert caption_rows(table, "label").features["label"] == labels
    assert "label" not in caption_rows(table, "text").features
    words = made([b"x", b"y"], text=["dog", "cat"])
    rows = caption_rows(words, "species", "species")  # the loader has called it `text`
    assert rows.features["label"] == ClassLabel(names=["cat", "dog"]) and rows["label"][:] == [1, 0]
    with pytest.raises(ValueError, match="`label_column='species'` is not a column.*'image', 'text'"):
        caption_rows(words, "text", "species")


def test_images_without_a_caption_are_no_rows():
    assert caption_rows(made([b"x", b"y"], text=["a cat", ""]), "text")["text"][:] == [["a cat"]]


def test_questions_are_lists_of_their_image():
    shown = question_rows(load_shapes("test", size=12, vqa=True).cast_column("image", Image(decode=False)))
    assert len(shown) == 2 and [len(texts) for texts in shown["text"]] == [6, 6]
    assert all(len(answers) == 1 for lists in shown["answers"] for answers in lists)
    plain = question_rows(made([b"x"], text=["how many?"], answer=[3]), "answer")
    assert plain["answers"][:] == [[["3"]]] and plain["question_type"][:] == [["all"]]
    with pytest.raises(ValueError, match="`answers_column` is 'answers', which is not a column"):
        question_rows(made([b"x"], text=["how many?"]))


def test_written_parts_are_read_back_and_not_written_again(tmp_path):
    rows = caption_rows(made([b"x", b"y"], text=["a cat", "a dog"]), "text")
    folder = write_parts({"pilot": rows, "held_out": rows.select([0])}, tmp_path)
    assert [len(load_image_text(str(folder / name))) for name in ("pilot", "held_out")] == [2, 1]
    assert load_image_text(str(folder / "pilot"))["image"][1]["bytes"] == b"y"
    before = (folder / "pilot" / "state.json").stat().st_mtime_ns
    assert write_parts({"pilot": rows, "held_out": rows.select([0])}, tmp_path) == folder
    assert (folder / "pilot" / "state.json").stat().st_mtime_ns == before
    other = rows.map(lambda row: {"text": ["other"]}, features=Features({**rows.features, "text": [Value("string")]}))
    assert write_parts({"pilot": other}, tmp_path) != folder and not list(tmp_path.glob("*.tmp"))


def test_two_containers_of_equal_process_ids_write_the_same_parts(tmp_path, monkeypatch):
    """The second writes all while the first is about to move its folder to its place."""
    rows, rename = caption_rows(made([b"x"], text=["a cat"]), "text"), Path.rename

    def overtaken(self, target):
        monkeypatch.setattr(Path, "rename", rename)
        write_parts({"pilot": rows}, tmp_path)
        return rename(self, target)

    monkeypatch.setattr(os, "getpid", lambda: 7)
    monkeypatch.setattr(Path, "rename", overtaken)
    folder = write_parts({"pilot": rows}, tmp_path)
    assert load_image_text(str(folder / "pilot"))["text"][:] == [["a cat"]] and list(tmp_path.iterdir()) == [folder]
