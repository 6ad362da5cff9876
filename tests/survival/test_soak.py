"""The soak's judgement by hand, and a short soak."""

import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest


@pytest.fixture
def soak(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)  # Its processes find it there, too.
    return importlib.import_module("soak")


def test_change_is_from_the_second_to_the_last_quarter(soak):
    rows = [{"open files": number} for number in [900, 900, 10, 10, 50, 50, 12, 12]]
    assert soak.change(rows, "open files") == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("logged", "scored", "faults"),
    [([50, 100], [], 0), ([50, 50, 100], [], 1), ([100, 50], [], 1), ([50], [], 1), ([50, 100], [250], 1)],
)
def test_a_log_has_each_step_once(logged, scored, faults, soak, tmp_path):
    lines = [{"step": step, "loss": 1.0} for step in logged] + [{"step": step, "eval_loss": 1.0} for step in scored]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = SimpleNamespace(args=SimpleNamespace(output_dir=str(tmp_path)))
    assert soak.log_faults(run, 100) == faults


def test_the_figure_has_a_line_for_each_quantity(soak):
    figure = soak.draw([dict.fromkeys(soak.ALLOWED, 2 + at % 2) | {"at": at} for at in range(8)], narrow=False)
    (axes,) = figure.axes
    assert [len(line.get_ydata()) for line in axes.lines] == [8] * len(soak.ALLOWED)
    plt.close(figure)


@pytest.mark.slow
def test_a_short_soak(soak, tmp_path, monkeypatch):
    """Its memory still grows, so only what holds from the start is judged. It leaves no file."""
    monkeypatch.setattr(soak, "OUTPUT", tmp_path / "out")
    monkeypatch.setattr(soak, "FIGURES", tmp_path / "figures")
    found = soak.main(["--steps", "250"])
    assert not [words for words in found if "changed" not in words or words.startswith("number of workers")], found
    assert not (tmp_path / "out").exists() and not (tmp_path / "figures").exists()
