"""recipes/maintenance/ablation_table.py: the table of a study goes between its markers."""

import made_up_study as made_up
import pytest

from recipes.maintenance import ablation_table

LOSSES = {"clip": "clip", "fd": {"fd": 4.0}, "clip+fd": {"clip": 1.0, "fd": 4.0}}


@pytest.fixture
def study(tmp_path):
    some = [made_up.cell(None, "clip", "x1", "plain", 0), made_up.cell("L", "fd", "x1", "plain", 0)]
    return made_up.write(tmp_path / "study", some, config={"objectives": LOSSES})


def test_it_is_printed(study, capsys):
    table = ablation_table.main([str(study)])
    assert capsys.readouterr().out.strip() == table
    assert "| `fd` |" in table and "teacher `L`" in table


def test_it_goes_between_its_markers(tmp_path, study, monkeypatch):
    (tmp_path / "recipes").mkdir()
    page, other = tmp_path / "recipes/README.md", tmp_path / "README.md"
    start, end = "<!-- ablation: written by a recipe -->", "<!-- end of ablation -->"
    page.write_text(f"before\n{start}\nold\n{end}\nafter\n")
    other.write_text("another page\n")
    monkeypatch.setattr(ablation_table, "ROOT", tmp_path)
    monkeypatch.setattr(ablation_table, "pages", lambda pages=ablation_table.pages: pages(tmp_path))
    for _ in range(2):
        table = ablation_table.main([str(study), "--write"])
        assert page.read_text() == f"before\n{start}\n{table}\n{end}\nafter\n"
    assert other.read_text() == "another page\n"


def test_a_study_of_something_else_has_no_table(tmp_path):
    folder = made_up.write(tmp_path / "study", [made_up.cell(None, "clip", "x1", "plain", 0)])
    with pytest.raises(ValueError, match="compares no loss alone.*ablation.yaml"):
        ablation_table.main([str(folder)])
