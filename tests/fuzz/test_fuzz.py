"""Damaged files are read right, or refused in a sentence: more than 200, and all that once were not."""

import resource
import signal
import time

import pytest
from fuzz_kinds import KINDS, Kind
from fuzzing import CRASHES, damaged, fault, limits, result_of, slug, with_files

from hf_clip_kd.data.reading.tars import ERROR
from hf_clip_kd.recipe_io.foreign import read_json

SEEDS = 2
SLOW = [name for name, kind in KINDS.items() if kind.slow]
FAST = [name for name in KINDS if name not in SLOW]
NAMES = {slug(name): name for name in KINDS}
PAST = sorted(path for path in CRASHES.glob("*/*") if path.is_dir())


def check(name, folder, seeds):
    with_files(name, folder)
    right = result_of(name, folder)
    for seed in seeds:
        path, names = damaged(name, seed, folder)
        with limits():
            assert fault(name, folder, path, names, right) is None, seed


@pytest.mark.parametrize("name", FAST)
def test_damaged_files(name, tmp_path):
    assert len(FAST) * SEEDS > 200
    check(name, tmp_path / "input", range(SEEDS))


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_damaged_folders(name, tmp_path):
    check(name, tmp_path / "input", range(20))


@pytest.mark.parametrize("crash", PAST, ids=lambda crash: f"{crash.parent.name}-{crash.name}")
def test_past_crashes(crash, tmp_path):
    name, (_, *names) = NAMES[crash.parent.name], crash.name.split("-")
    with_files(name, tmp_path / "input")
    right = result_of(name, tmp_path / "input")
    (kept,) = (path for path in crash.rglob("*") if path.is_file())
    path = tmp_path / "input" / kept.relative_to(crash)
    path.write_bytes(kept.read_bytes())
    with limits():
        assert fault(name, tmp_path / "input", path, names, right) is None


@pytest.mark.parametrize("fails", ["time", "memory", "rows", "another whole", "no fix", "no file", "another's error"])
def test_the_verdict(fails, tmp_path, monkeypatch):
    """Readers that fail in each way are found, and limits are lifted afterwards."""
    path = tmp_path / "a.json"
    path.write_text("[]")
    readers = {
        "time": lambda folder: time.sleep(9),
        "memory": lambda folder: bytearray(2**32),
        "rows": lambda folder: [{ERROR: "MemoryError: of a row"}],
        "another whole": lambda folder: "half",
        "no fix": lambda folder: read_json(path, allowed="It must be a dict.", fix=""),
        "no file": lambda folder: read_json(folder, allowed="", fix="Repair it."),
        "another's error": lambda folder: path.read_bytes().decode("utf-16").encode("ascii"),
    }
    words = {"time": "seconds", "memory": "too much memory", "rows": "too much memory", "another's error": "Unicode"}
    kind = Kind("lists", lambda folder: None, readers[fails], whole=True)
    monkeypatch.setitem(KINDS, "made up", kind)
    monkeypatch.setattr("fuzzing.SECONDS", 1)
    before = resource.getrlimit(resource.RLIMIT_AS)
    with limits():
        found = fault("made up", tmp_path, path, ["truncate"], "whole")
    assert words.get(fails, fails) in found
    assert resource.getrlimit(resource.RLIMIT_AS) == before and signal.alarm(0) == 0


def test_the_damages_are_of_the_seed_alone(tmp_path):
    found = [damaged("recipe", seed, tmp_path / "input")[0].read_bytes() for seed in (1, 2, 1)]
    assert found[0] == found[2] != found[1]
