"""Damaged files are read right, or refused in a sentence: 200 of them, and all that once were not."""

import pytest
from fuzz_kinds import KINDS
from fuzzing import CRASHES, damaged, fault, result_of, slug, with_files

SEEDS = 2
SLOW = ("GGUF", "student folder")
NAMES = {slug(name): name for name in KINDS}
PAST = sorted(path for path in CRASHES.glob("*/*") if path.is_dir())


@pytest.mark.parametrize("name", [name for name in KINDS if name not in SLOW])
def test_damaged_files(name, tmp_path):
    with_files(name, tmp_path / "input")
    right = result_of(name, tmp_path / "input")
    for seed in range(SEEDS):
        path, names = damaged(name, seed, tmp_path / "input")
        assert fault(name, tmp_path / "input", path, names, right) is None, seed


def test_past_crashes(tmp_path):
    for crash in PAST:
        name = NAMES[crash.parent.name]
        with_files(name, tmp_path / "input")
        (kept,) = (path for path in crash.rglob("*") if path.is_file())
        path = tmp_path / "input" / kept.relative_to(crash)
        path.write_bytes(kept.read_bytes())
        assert fault(name, tmp_path / "input", path) is None, crash.name


def test_the_damages_are_of_the_seed_alone(tmp_path):
    found = [damaged("recipe", seed, tmp_path / "input")[0].read_bytes() for seed in (1, 2, 1)]
    assert found[0] == found[2] != found[1]
