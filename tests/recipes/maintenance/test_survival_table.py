"""recipes/maintenance/survival_table.py: rows of several commands become one table between its markers."""

import json
from pathlib import Path

import pytest

from recipes.maintenance import survival_table as survival

ROOT = Path(__file__).parents[3]


def write(folder, name, *rows):
    folder.mkdir(exist_ok=True)
    keys = ("what", "tried", "lost", "command")
    (folder / name).write_text(json.dumps([dict(zip(keys, row, strict=True)) for row in rows]))


def test_it_goes_between_its_markers(tmp_path, monkeypatch, capsys):
    write(tmp_path / "s", "kills.json", ("kills", 1000, 0, "make kills N=1000"))
    write(tmp_path / "s", "fuzz.json", ("tars", 12345, 1, "make fuzz"), ("images", 7, 0, "make fuzz"))
    (tmp_path / "s/soak_readings.json").write_text('[{"at": 5}]')
    monkeypatch.setattr(survival, "PAGE", tmp_path / "page.md")
    survival.PAGE.write_text("a\n<!-- survival -->\nold\n<!-- end of survival -->\nb\n")
    table = survival.main([str(tmp_path / "s"), "--write"])
    assert survival.PAGE.read_text() == f"a\n<!-- survival -->\n{table}\n<!-- end of survival -->\nb\n"
    assert table.splitlines()[2] == "| tars | 12,345 | 1 | `make fuzz` |" and table.count("\n") == 4
    assert survival.MARKED.search((ROOT / "docs/security.md").read_text()) and table in capsys.readouterr().out


def test_what_is_no_result_is_named(tmp_path):
    with pytest.raises(ValueError, match="holds no results.*Run `make fuzz` first"):
        survival.main([str(tmp_path)])
    write(tmp_path, "fuzz.json", ("tars", "many", 0, "make fuzz"))
    with pytest.raises(ValueError, match="fuzz.json: `tried` of row 0 is a text.*Run `make fuzz`"):
        survival.main([str(tmp_path)])
