"""recipes/maintenance/speed_table.py: the table of all benchmarks goes between its markers."""

import json
from pathlib import Path

import pytest

from recipes.maintenance import speed_table

ROOT = Path(__file__).parents[3]
MACHINE = {"processor": "a processor", "gpu": None, "cores": 2, "system": "Linux x86_64", "python": "3.11.0"}
MACHINE |= {"threads": 2, "load_average": 0.5, "packages": {"torch": "2.9.0", "pillow": "12.0"}}
OTHER = MACHINE | {"gpu": "a GPU", "threads": 1, "load_average": 1.25}
ROW = {
    "what": "a step",
    "peer_name": "a loop",
    "ours": 2.0,
    "peer": 1.0,
    "unit": "s",
    "ratio": 2.0,
    "spread": [1.9, 2.1],
    "at_least": None,
    "at_most": None,
    "memory_mb": [1234, 99],
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "bench").mkdir()
    results = {"step": {"rows": [ROW], "machine": MACHINE}, "without_rows": {"machine": MACHINE}}
    for name, result in (results | {"other": {"rows": [ROW], "machine": OTHER}}).items():
        (tmp_path / f"bench/{name}.json").write_text(json.dumps(result))
    return tmp_path / "bench"


@pytest.mark.parametrize(
    ("limits", "shown"),
    [
        ({"at_least": 1.5}, "| **2.00** (1.90–2.10) | ≥ 1.5 |"),
        ({"at_least": 2.5}, "| 2.00 (1.90–2.10) | ≥ 2.5 |"),
        ({"at_most": 2.0}, "| **2.00** (1.90–2.10) | ≤ 2 |"),
        ({"at_most": 1.05}, "| 2.00 (1.90–2.10) | ≤ 1.05 |"),
        ({}, "| 2.00 (1.90–2.10) |  |"),
    ],
)
def test_a_ratio_within_its_limit_is_bold(limits, shown):
    line = speed_table.line(ROW | limits, 2)
    assert shown in line and line.startswith("| a step | 2 | 1 | s, a loop |") and line.endswith("| 1,234 / 99 | 2 |")


def test_it_goes_between_its_markers(tmp_path, folder, monkeypatch, capsys):
    (tmp_path / "docs").mkdir()
    page, start, end = tmp_path / "docs/speed.md", "<!-- speed: written by a recipe -->", "<!-- end of speed -->"
    page.write_text(f"before\n{start}\nold\n{end}\nafter\n")
    monkeypatch.setattr(speed_table, "ROOT", tmp_path)
    monkeypatch.setattr(speed_table, "pages", lambda pages=speed_table.pages: pages(tmp_path))
    for _ in range(2):
        table = speed_table.main([str(folder), "--write"])
        assert page.read_text() == f"before\n{start}\n{table}\n{end}\nafter\n"
    programs = "Linux x86_64, Python 3.11.0, torch 2.9.0, pillow 12.0"
    assert f"Measured on a processor, 2 cores, {programs}; a processor, 2 cores, a GPU, {programs}." in table
    assert "The load average was 0.5 to 1.25." in table
    assert [row.split(" | ")[-1] for row in table.splitlines()[2:4]] == ["1 |", "2 |"]
    assert capsys.readouterr().out.rstrip().endswith(table)


def test_a_folder_without_rows_has_no_table(tmp_path):
    with pytest.raises(ValueError, match="no benchmark with rows.*tests/bench.*make bench"):
        speed_table.main([str(tmp_path)])
