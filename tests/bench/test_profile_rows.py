"""tests/bench/profile_rows.py: each row of the table has a profile."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parent
START = "import sys, pathlib, report; report.OUTPUTS = pathlib.Path(sys.argv[1]); import profile_rows; "


def profiled(folder, *arguments):
    command = [sys.executable, "-c", f"{START}profile_rows.main(sys.argv[2:])", str(folder), *arguments]
    return subprocess.run(command, cwd=BENCH, capture_output=True, text=True)


@pytest.mark.slow
def test_each_row_has_its_lines(tmp_path):
    folder = tmp_path / "outputs" / "bench"
    run = profiled(folder, "--tiny", "--lines", "15")
    assert run.returncode == 0, run.stderr
    texts = re.split(r"^== (.+) ==$", (folder / "profile.txt").read_text(), flags=re.MULTILINE)[1:]
    found = dict(zip(texts[::2], texts[1::2], strict=True))
    assert len(found) == 11
    for name in ("online step", "open_clip's loop", "plain loop", "LLaVA step", "cached step", "GradCache step"):
        assert "aten::" in found[name] and "Self CPU" in found[name], name
    # Weights are drawn before the first step.
    assert "aten::normal_" not in found["online step"]
    assert "tottime" in found["input"] and "hf_clip_kd" in found["import"]


@pytest.mark.slow
def test_a_row_that_is_none(tmp_path):
    run = profiled(tmp_path, "online")
    assert run.returncode == 2 and "'online' is no row. Rows are online step, open_clip's loop," in run.stderr
