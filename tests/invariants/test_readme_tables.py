"""The tables of the READMEs agree with the code."""

import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest
import yaml

import hf_clip_kd as kd
from hf_clip_kd.losses import OBJECTIVES
from hf_clip_kd.losses.specification import specification

ROOT = Path(__file__).parents[2]


def table_rows(text, heading):
    """The cells of the first table below a heading."""
    lines = iter(text.split(f"{heading}\n", 1)[1].splitlines())
    rows = []
    for line in lines:
        if line.startswith("|"):
            rows.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
        elif rows:
            return rows[2:]
    return rows[2:]


TOWER = ("vision_model", "visual_projection")
README = (ROOT / "README.md").read_text(encoding="utf-8")
STUDENTS = {name: cells for name, *cells in table_rows(README, "## Students")}


def test_readme_lists_every_student_and_loss():
    real = {name for name in kd.list_models() if not name.startswith(("shapes-", "test-"))}
    assert real <= set(STUDENTS) <= set(kd.list_models())
    losses = {row[0]: row for row in table_rows(README, "## Losses")}
    assert list(losses) == list(kd.LOSSES)
    for name, row in losses.items():
        assert kd.LOSSES[name].paper["id"] in row[3]
        options = [p for p in inspect.signature(kd.LOSSES[name]).parameters.values() if p.kind is p.KEYWORD_ONLY]
        assert all(f"`{option.name}" in f"`{row[4]}" for option in options) and bool(options) == (row[4] != "–")
    default = kd.DistillationTrainingArguments("unused", use_cpu=True).losses
    assert default == yaml.safe_load(re.search(r"The default is `(.*?)`", README)[1])


@pytest.mark.parametrize("name", STUDENTS)
def test_readme_gives_the_size_of_a_student(name):
    model, _ = kd.load_clip(name)
    parameters = {part: sum(p.numel() for p in getattr(model, part).parameters()) / 1e6 for part in TOWER}
    pixels, width, image, all_, plain = STUDENTS[name]
    assert (int(pixels), int(width)) == (model.config.vision_config.image_size, model.config.projection_dim)
    assert image == f"{sum(parameters.values()):.2f}"
    assert all_ == f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f}"
    assert plain == ("yes" if type(model).__module__.startswith("transformers.") else "no")


def written(recipe):
    """What stands in recipes/README.md between the markers of a recipe, and the recipe."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    module = importlib.import_module(f"recipes.{recipe}")
    start, end = module.MARKERS
    return module.README.read_text(encoding="utf-8").split(start)[1].split(end)[0].strip(), module


def test_recipes_readme_has_the_table_of_losses():
    text, recipe = written("maintenance.loss_table")
    assert text == recipe.table(), "run `python recipes/maintenance/loss_table.py --write`"
    rows = {row[1]: row for row in (line[2:-2].split(" | ") for line in text.splitlines()[2:])}
    assert set(rows) == {f"`{name}`" for name in kd.LOSSES}
    # Facts that hold whoever writes the docstrings.
    assert rows["`clip`"][0] == "images and texts" and "a ViT student" in rows["`mfd`"][0]
    assert rows["`fd`"][3:5] == ["4", "projections between unequal widths"] and rows["`fd`"][7] == "34.23"
    assert rows["`afd`"][4] == "projections, a scale"
    assert all(len(row) == len(recipe.HEADER) for row in rows.values())


def test_recipes_readme_shows_losses_that_exist():
    text = (ROOT / "recipes/README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    shown = [yaml.safe_load(block)["losses"], yaml.safe_load(re.search(r"`losses: (\{.*?\})`", text)[1])]
    for losses in shown:
        for _, (cls, _, options) in specification(losses).items():
            cls(kd.CLIPDims(4, token_dim=4), kd.CLIPDims(4, token_dim=4), **options)


def test_one_document_has_a_place_for_the_ablation():
    recipe = importlib.import_module("recipes.maintenance.ablation_table")
    (page,) = recipe.pages()
    _, text, _ = recipe.MARKED.search(page.read_text(encoding="utf-8")).groups()
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert {re.match(r"\| `(\w+)`", row)[1] for row in rows} <= {*kd.LOSSES, *OBJECTIVES}


def test_recipes_readme_lists_every_recipe():
    rows = table_rows((ROOT / "recipes/README.md").read_text(), "# Recipes")
    assert {row[0] for row in rows} == {
        path.name for path in [*(ROOT / "recipes").glob("*.py"), *(ROOT / "recipes/maintenance").glob("*.py")]
    }
    named = re.findall(
        r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", (ROOT / "recipes/README.md").read_text(), re.M))
    )
    assert {path.stem for path in (ROOT / "recipes/configs/distill").glob("*.yaml")} <= set(named)
