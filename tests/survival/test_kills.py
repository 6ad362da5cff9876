"""The command that kills: its pieces, its rows, and a few kills that leave the published JSON alone."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from killed_work import WORK

ROOT = Path(__file__).parents[2]
PATH = Path(__file__).parent / "kills.py"


@pytest.fixture
def kills(monkeypatch):
    monkeypatch.syspath_prepend(PATH.parent)
    return importlib.import_module("kills")


def test_a_thousand_kills_are_shared_by_all_works(kills):
    assert kills.SHARES.keys() == {*WORK, "study.py"}
    pieces = kills.parts(1000, kills.SHARES)
    assert {name for name, *_ in pieces} == kills.SHARES.keys()
    assert [seed for *_, seed in pieces] == list(range(len(pieces)))
    assert abs(sum(number for _, number, _ in pieces) - 1000) < len(kills.SHARES)


def test_a_row_counts_phases_and_hangs(kills):
    done = [
        ("map", ["saving", "other"], []),
        ("push.py", ["other"], ["run ended with [None] after [], seed 1"]),
        ("map", ["saving"], ["run ended otherwise after ['None'], seed 2"]),
    ]
    first, second = kills.table(done, "make kills N=9")
    assert first == {
        "what": "kills of training a student",
        "tried": 3,
        "lost": 1,
        "hangs": 0,
        "phases": {"other": 1, "saving": 2},
        "command": "make kills N=9",
    }
    assert (second["tried"], second["lost"], second["hangs"]) == (1, 1, 1)


@pytest.mark.slow
def test_a_few_kills_of_one_work(tmp_path):
    """The published JSON stays as it is with `--only`."""
    published = ROOT / "outputs/survival/kills.json"
    before = published.read_bytes() if published.is_file() else None
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests/helpers'}", "TMPDIR": str(tmp_path)}
    command = [sys.executable, str(PATH), "--kills", "3", "--jobs", "1", "--only", "map"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0 and "3 kills in" in done.stdout and "0 runs lost or different" in done.stdout, done
    assert (published.read_bytes() if published.is_file() else None) == before
