"""Files of a checkpoint: its mark tells damage, the last complete one is found, and old ones go."""

import json
import logging
import os
import shutil
from zlib import crc32

import pytest
from checkpointed_runs import names

from hf_clip_kd.recipe_io.format_version import CURRENT
from hf_clip_kd.training.checkpoint_files import (
    MARK,
    differences,
    last_complete,
    remove_checkpoint,
    rotate,
    why_incomplete,
)

STATE_FILES = [
    "checkpoint.json",
    "config.json",
    "losses.safetensors",
    "model.safetensors",
    "optimizer.pt",
    "rng_state.pth",
    "scheduler.pt",
    "trainer_state.json",
    "training_args.json",
]


def test_files_of_a_checkpoint(whole):
    folder = whole[1] / "checkpoint-3"
    assert {path.name for path in folder.iterdir()} >= set(STATE_FILES)
    assert why_incomplete(folder) is None
    listed = json.loads((folder / MARK).read_text())["files"]
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != MARK}
    assert listed == {n: {"bytes": len(data), "checksum": f"{crc32(data):08x}"} for n, data in files.items()}
    assert json.loads((folder / "training_args.json").read_text())["save_steps"] == 1


@pytest.mark.parametrize("mark", ['{"files": null}', "[]", "{}", "{", ""])
def test_a_damaged_mark(tmp_path, mark):
    (tmp_path / MARK).write_text(mark)
    assert why_incomplete(tmp_path) == f"its {MARK} is damaged"


def test_a_mark_of_a_later_version_is_not_taken_for_a_damaged_one(tmp_path):
    """A later version may name its fields otherwise."""
    (tmp_path / "checkpoint-1").mkdir()
    later = CURRENT["checkpoint"] + 1
    (tmp_path / "checkpoint-1" / MARK).write_text(json.dumps({"format_version": later}))
    with pytest.raises(ValueError, match=f"{MARK}: it is a checkpoint of the format version {later}.*pip install -U"):
        last_complete(tmp_path)
    assert names(tmp_path) == ["checkpoint-1"]


def flipped(data):
    """One bit in the middle is another."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
@pytest.mark.parametrize("name", STATE_FILES)
def test_torn_checkpoint_is_named_and_moved_aside(killed, name, damage, caplog):
    path = killed / "checkpoint-3" / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-7] if damage == "cut" else flipped(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert last_complete(killed) == killed / "checkpoint-2"
    assert names(killed) == ["checkpoint-1", "checkpoint-2", "torn-checkpoint-3"]
    assert name in caplog.text and "torn-checkpoint-3" in caplog.text


@pytest.mark.parametrize(
    "there, limit, best, left",
    [
        ([1, 2, 3], 1, None, [3]),
        ([1, 2, 3], 2, None, [2, 3]),
        ([1, 2, 3], 1, 1, [1, 3]),
        ([1, 2, 3], 2, 1, [1, 3]),
        ([1, 2, 3, 70, 80], 2, None, [2, 3]),  # an earlier run had more steps
        ([1, 2, 3], None, None, [1, 2, 3]),
    ],
)
def test_rotation_asks_no_clock(tmp_path, there, limit, best, left):
    """The clock jumped back by an hour before the last save."""
    torn = {name: tmp_path / f"torn-checkpoint-{name}" for name in ("killed", "damaged")}
    for path in torn.values():
        path.mkdir()
    (torn["damaged"] / MARK).touch()  # it was whole, and perhaps somebody can mend it
    for step in there:
        (tmp_path / f"checkpoint-{step}").mkdir()
        os.utime(tmp_path / f"checkpoint-{step}", (10_000 - 3600 * step,) * 2)
    rotate(tmp_path / "checkpoint-3", limit, best and str(tmp_path / f"checkpoint-{best}"))
    assert sorted(int(path.name.removeprefix("checkpoint-")) for path in tmp_path.glob("checkpoint-*")) == left
    assert (torn["killed"].exists(), torn["damaged"].exists()) == (limit is None, True)


def test_a_checkpoint_that_a_kill_left_half_deleted_is_torn(killed, monkeypatch):
    def kill(path, **_):
        next(file for file in path.iterdir() if file.name != MARK).unlink()
        raise KeyboardInterrupt

    for step in (1, 2, 3):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(shutil, "rmtree", kill)
            remove_checkpoint(killed / f"checkpoint-{step}")
    assert last_complete(killed) is None


def test_differences_are_named_by_their_place():
    then, now = {"a": {"b": 1, "c": [2]}, "d": None}, {"a": {"b": 1, "c": [3]}, "e": 4}
    assert differences(then, now) == [("a.c", "[2]", "[3]"), ("e", "None", "4")]
    assert differences({"a": None}, {"a": {"b": 1}}) == [("a", "None", "{'b': 1}")]
