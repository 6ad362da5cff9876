"""recipes/maintenance/survival_table.py: rows of several commands become one table between its markers."""

import json
import re
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
    assert table.splitlines()[2] == "| tars | 12,345 | 1 | – | – | `make fuzz` |"
    assert table.count("\n") == 4 + len(survival.TESTS)
    assert survival.MARKED.search((ROOT / "docs/security.md").read_text()) and table in capsys.readouterr().out


def test_the_figure_of_the_soak_is_put_in_once_it_is_drawn(tmp_path, monkeypatch):
    write(tmp_path / "s", "kills.json", ("kills", 1000, 0, "make kills N=1000"))
    monkeypatch.setattr(survival, "PAGE", tmp_path / "page.md")
    page = "<!-- survival -->\n<!-- end of survival -->\n<!-- soak -->\n{}<!-- end of soak -->\n"
    for drawn in (False, True):
        survival.PAGE.write_text(page.format("old\n"))
        survival.main([str(tmp_path / "s"), "--write"])
        text = survival.PAGE.read_text()
        found = re.findall(r"(img/soak[\w-]*\.svg)", text)
        assert found == [f"img/soak{end}.svg" for end in ("-narrow-dark", "-narrow", "-dark", "") if drawn]
        assert "old\n" not in text
        (tmp_path / "img").mkdir(exist_ok=True)
        (tmp_path / "img/soak.svg").touch()
    assert survival.SOAK.search((ROOT / "docs/security.md").read_text())


def test_hangs_and_crashes_have_columns_of_their_own(tmp_path):
    rows = [{"what": "tars", "tried": 9, "lost": 3, "hangs": 1, "crashes": 2, "command": "make fuzz"}]
    (tmp_path / "fuzz.json").write_text(json.dumps(rows))
    assert "| tars | 9 | 3 | 1 | 2 | `make fuzz` |" in survival.survival_table(tmp_path)


def test_each_row_of_tests_names_files_that_exist():
    assert all((ROOT / path).exists() for paths in survival.TESTS.values() for path in paths.split())


def test_what_is_no_result_is_named(tmp_path):
    with pytest.raises(ValueError, match="holds no results.*Run `make fuzz` first"):
        survival.main([str(tmp_path)])
    write(tmp_path, "fuzz.json", ("tars", "many", 0, "make fuzz"))
    with pytest.raises(ValueError, match="fuzz.json: `tried` of row 0 is a text.*Run `make fuzz`"):
        survival.main([str(tmp_path)])
