"""The tables of the READMEs agree with the code."""

import inspect
import re
from pathlib import Path

import pytest
import yaml

import hf_clip_kd as kd

ROOT = Path(__file__).parents[1]


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


def test_recipes_readme_lists_every_recipe():
    rows = table_rows((ROOT / "recipes/README.md").read_text(), "# Recipes")
    assert {row[0] for row in rows} == {path.name for path in (ROOT / "recipes").glob("*.py")}
    named = re.findall(
        r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", (ROOT / "recipes/README.md").read_text(), re.M))
    )
    assert {path.stem for path in (ROOT / "recipes/configs/distill").glob("*.yaml")} <= set(named)
