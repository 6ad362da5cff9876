"""tests/gpu/measure.py on a CPU: what becomes of a part, and which parts a run makes."""

import json
import sys
import time
from pathlib import Path

import pytest
import torch

GPU = Path(__file__).parent


@pytest.fixture
def measure(monkeypatch):
    for folder in (GPU, GPU.parent / "bench"):
        monkeypatch.syspath_prepend(str(folder))
    import measure

    return measure


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("print('text'); print('{\"seconds\": 1.5}')", {"seconds": 1.5}),
        ("print('3 passed, 1 skipped in 2s')", {"output": "3 passed, 1 skipped in 2s"}),
        ("print('4 skipped in 2s')", {"error": "no test ran: 4 skipped in 2s"}),
        ("pass", {"error": "no test ran: nothing was printed"}),
        ("import sys; sys.exit('a reason')", {"error": "a reason"}),
        (
            "import sys; sys.exit('torch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB.')",
            {"out_of_memory": "torch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB."},
        ),
    ],
)
def test_outcome_of_a_part(measure, code, expected):
    assert measure.outcome([sys.executable, "-c", code], 60) == expected


def test_the_name_of_a_full_memory_is_that_of_torch():
    assert torch.OutOfMemoryError.__name__ == "OutOfMemoryError"


def test_a_part_that_takes_too_long_leaves_no_process(measure, tmp_path):
    child = f"import time, pathlib; time.sleep(3); pathlib.Path({str(tmp_path / 'alive')!r}).touch()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    assert measure.outcome([sys.executable, "-c", code], 1) == {"error": "took more than 1 s"}
    time.sleep(3)
    assert not (tmp_path / "alive").exists()


def test_a_run_makes_the_parts_that_lack(measure, tmp_path, monkeypatch, capsys):
    path = tmp_path / "gpu.json"
    command = [sys.executable, "-c", "print('{\"seconds\": 2}')"]
    names = ["known", "full", "failed", "new"]
    monkeypatch.setattr(measure, "parts", lambda device, tiny: {name: (command, 60) for name in names})
    kept = {"known": {"seconds": 1}, "full": {"out_of_memory": "no room"}}
    path.write_text(json.dumps(kept | {"failed": {"error": "why"}}))
    with pytest.raises(SystemExit, match="These parts lack: failed, new. Run again"):
        measure.main("cpu", path, tiny=True, minutes=0)
    measure.main("cpu", path, tiny=True, minutes=5)
    found = json.loads(path.read_text())
    assert found["machine"]["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert {name: found[name] for name in kept} == kept
    assert [found[name]["seconds"] for name in ("failed", "new")] == [2, 2]
    assert [file.name for file in tmp_path.iterdir()] == ["gpu.json"]
    assert capsys.readouterr().out.startswith("failed ")


def test_what_matters_most_comes_first(measure):
    """The limits compare compiled steps at batch 256, and the memory of the losses."""
    names = list(measure.parts("cuda", False))
    first = names[: names.index("engines")]
    assert first[0] == "correctness" and "clip_kd of 65,536 pairs" in first
    for kind in ("online compiled", "open_clip compiled", "cached compiled", "alone compiled", "cached"):
        assert f"L/14 → S/16, batch 256, {kind}" in first
    assert f"B/16 → T/16, batch 4,096, {measure.KINDS[-1]}" in names


@pytest.mark.slow
def test_a_tiny_step_and_loss(measure):
    for options in (["--step", "tiny", "4", "cached"], ["--step", "tiny", "4", "open_clip"], ["--loss", "64"]):
        command = [sys.executable, str(GPU / "measure.py"), "cpu", *options]
        found = measure.outcome(command, 300)
        assert found["seconds"] > 0 and found["peak_mb"] > 0, found
