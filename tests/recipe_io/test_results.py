"""Files are written whole or not at all."""

import os
import re
from types import SimpleNamespace

import pytest

from hf_clip_kd.recipe_io import results
from hf_clip_kd.recipe_io.foreign import ForeignFileError
from hf_clip_kd.recipe_io.results import (
    check_answers,
    data_names,
    load_results,
    read_written,
    read_written_lines,
    remove_torn,
    save_results,
    write_whole,
)


@pytest.mark.parametrize("data", ["a ü\n", b"\x00\xff"])
def test_a_file_is_written_with_its_folders(tmp_path, data):
    path = tmp_path / "new" / "folder" / "file.json"
    write_whole(path, data)
    write_whole(path, data)
    assert path.read_bytes() == (data.encode() if isinstance(data, str) else data)
    assert os.listdir(path.parent) == ["file.json"]


def test_a_kill_leaves_the_old_file(tmp_path, monkeypatch):
    def killed(*paths):
        raise KeyboardInterrupt

    path = tmp_path / "file.json"
    write_whole(path, "old")
    monkeypatch.setattr(results, "os", SimpleNamespace(**vars(os) | {"replace": killed}))
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, "new")
    assert path.read_text() == "old" and len(os.listdir(tmp_path)) == 2
    remove_torn(tmp_path)
    assert os.listdir(tmp_path) == ["file.json"]


def test_two_containers_of_equal_process_ids_write_one_file(tmp_path, monkeypatch):
    """The second writes while the first is about to move its file to its place."""
    path, replace = tmp_path / "cell.json", os.replace

    def overtaken(source, target):
        monkeypatch.setattr(os, "replace", replace)
        write_whole(path, "second")
        replace(source, target)

    monkeypatch.setattr(os, "getpid", lambda: 7)
    monkeypatch.setattr(os, "replace", overtaken)
    write_whole(path, "first")
    assert path.read_text() == "first" and os.listdir(tmp_path) == ["cell.json"]


RESULT = {"dataset": "d", "model": "m", "task": "t", "metrics": {"acc1": 0.5}, "config": {}}


def test_a_result_of_nothing_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="t of 'm' on 'd' would score 0 images, so its numbers would say nothing"):
        save_results(tmp_path, **RESULT, counts={"n_images": 0})
    assert not list(tmp_path.iterdir())
    save_results(tmp_path, **RESULT, counts={"n_images": 7})
    assert load_results(tmp_path)[0]["n_images"] == 7


@pytest.mark.parametrize("answers", [[], [""], ["", " \n"]])
def test_empty_answers_are_none(answers):
    with pytest.raises(ValueError, match="gqa.* would (score 0 answers|say nothing)"):
        check_answers("gqa", answers)


@pytest.mark.parametrize(
    "answers, said",
    [(["a", "b"], ""), (["a"], ""), (["a", "a "], "All 2 answers to gqa are 'a'"), (["a", ""], "1 of 2 .* are empty")],
)
def test_odd_answers_are_said(answers, said, caplog):
    check_answers("gqa", answers)
    assert re.search(said, caplog.text) if said else not caplog.text


@pytest.mark.parametrize("read", [read_written, read_written_lines])
@pytest.mark.parametrize(("text", "told"), [("{", "is no JSON"), ("[1]", "a list"), (None, "no such file")])
def test_what_this_package_wrote_is_read_or_named(tmp_path, read, text, told):
    path = tmp_path / "cost.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ForeignFileError, match=f"cost.json: .*{told}.*Restore it, or make it anew"):
        read(path)
    path.write_text('{"a": 1}\n')
    assert read(path) in ({"a": 1}, [{"a": 1}])


def test_names_of_data_tell_blocks_apart_where_they_must():
    """Names of blocks that differ stay as they were, for results of earlier runs are found by them."""
    shapes = {"dataset_name": "shapes", "split": "zero_shot"}
    evaluation = {
        "zero_shot": shapes,
        "unseen": {"task": "zero_shot", "dataset_name": "imagefolder", "data_dir": "a/unseen"},
        "pets": {"task": "zero_shot", "dataset_name": "webdataset", "data_files": "wds/pets/test/*.tar"},
        "classification": {"task": "representation", **shapes},
    }
    names = {"zero_shot": "shapes/zero_shot", "unseen": "a/unseen/test", "pets": "wds/pets/test"}
    names["classification"] = "shapes/zero_shot"
    assert data_names(evaluation) == names
    again = {"again": {"task": "zero_shot", "seed": 1, **shapes}}
    both = {"zero_shot": "shapes:zero_shot/zero_shot", "again": "shapes:again/zero_shot"}
    assert data_names(evaluation | again) == names | both
