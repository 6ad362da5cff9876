"""Tables of the documents agree with the code: one command writes them, `python -m recipes.maintenance.tables`."""

import re

import pytest
import yaml
from documents import ROOT

import hf_clip_kd as kd
from hf_clip_kd.losses import OBJECTIVES
from hf_clip_kd.losses.specification import specification
from recipes.maintenance import ablation_table
from recipes.maintenance.tables import __main__ as tables
from recipes.maintenance.tables import losses, recipes, students

LOSSES_PAGE = (ROOT / "docs/losses.md").read_text(encoding="utf-8")


# The table of students builds every preset.
LONG = {"students"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in tables.TABLES]
)
def test_table_stands_once_and_is_fresh(name):
    markers = [
        page for page in tables.pages() if f"<!-- table: {name}, written by " in page.read_text(encoding="utf-8")
    ]
    assert len(markers) == 1
    assert tables.stale([name]) == {}, f"run `{tables.COMMAND}`"


def test_no_page_marks_an_unknown_table():
    text = "".join(page.read_text(encoding="utf-8") for page in tables.pages())
    names = [found[2] for found in tables.MARKED.finditer(text)]
    assert sorted(names) == sorted(tables.TABLES) and text.count("<!-- table:") == len(names)


def test_command_renews_what_it_is_asked_for(tmp_path, monkeypatch, capsys):
    start, end = f"<!-- table: {{}}, written by `{tables.COMMAND}` -->\n", "<!-- end of table -->\n"
    page = tmp_path / "README.md"
    page.write_text(f"a\n{start.format('losses')}old\n{end}b\n{start.format('scripts')}old\n{end}c\n")
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    monkeypatch.setattr(tables, "pages", lambda: [page])
    monkeypatch.setattr(tables, "TABLES", {"losses": lambda: "new losses", "scripts": lambda: r"new \1 scripts"})
    with pytest.raises(SystemExit, match="differ from the code.* Run `python -m recipes.maintenance.tables`"):
        tables.main(["--check"])
    assert page.read_text().count("old") == 2
    assert tables.main(["losses"]) == [page]
    assert page.read_text() == f"a\n{start.format('losses')}new losses\n{end}b\n{start.format('scripts')}old\n{end}c\n"
    tables.main([])
    assert page.read_text().count("old") == 0 and r"new \1 scripts" in page.read_text()
    assert tables.main([]) == []
    assert capsys.readouterr().out.splitlines() == ["README.md is stale", "README.md written", "README.md written"]


def cells(table):
    """Return the cells of each row below the header, by the first name in it."""
    return {re.search(r"`([\w.-]+)`", row)[1]: row[2:-2].split(" | ") for row in table.splitlines()[2:]}


def test_losses_show_facts_that_hold_whoever_writes_them():
    rows = cells(losses.table().split("\n\n")[0])
    assert set(rows) == set(kd.LOSSES) and all(len(row) == len(losses.HEADER) for row in rows.values())
    assert rows["clip"][0] == "images and texts" and "a ViT student" in rows["mfd"][0]
    assert rows["fd"][4] == "4" and rows["fd"][6:] == ["projections between unequal widths", "34.23"]
    assert rows["afd"][6] == "projections, a scale" and rows["siglip"][5:] == ["–", "–", "–"]


def test_students_show_their_sizes():
    assert students.row("ViT-T-16") == ("`ViT-T-16`", "224", "512", "5.62", "40.49", "46.12", "yes")
    assert students.row("shapes-conv") == ("`shapes-conv`", "32", "64", "0.51", "0.63", "1.14", "no")


def test_recipes_are_all_there():
    scripts = {path.name for path in (ROOT / "recipes").glob("*.py")}
    assert set(cells(recipes.scripts())) == scripts
    assert "`configs/distill/demo.yaml`" in recipes.scripts()
    assert len(recipes.configs().splitlines()) - 2 == len(list((ROOT / "recipes/configs").glob("*/*.yaml")))


def test_losses_page_shows_losses_that_exist():
    block = re.search(r"```yaml\n(.*?)```", LOSSES_PAGE, re.DOTALL)[1]
    shown = [yaml.safe_load(block)["losses"], yaml.safe_load(re.search(r"`losses: (\{.*?\})`", LOSSES_PAGE)[1])]
    for spec in shown:
        for _, (cls, _, options) in specification(spec).items():
            cls(kd.CLIPDims(4, token_dim=4), kd.CLIPDims(4, token_dim=4), **options)


def test_losses_page_names_the_default():
    default = kd.DistillationTrainingArguments("unused", use_cpu=True).losses
    assert default == re.search(r"The default is `(\w+)`", LOSSES_PAGE)[1]
    written = yaml.safe_load(re.search(r"The default is `clip_kd`, which is\s+`(.*?)`", LOSSES_PAGE)[1])
    assert written == {name: spec["weight"] for name, spec in OBJECTIVES["clip_kd"]().items()}


def test_one_document_has_a_place_for_the_ablation():
    (page,) = ablation_table.pages()
    _, text, _ = ablation_table.MARKED.search(page.read_text(encoding="utf-8")).groups()
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert rows and {re.match(r"\| `(\w+)`", row)[1] for row in rows} <= {*kd.LOSSES, *OBJECTIVES}
