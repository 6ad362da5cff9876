"""recipes/maintenance/binding_table.py: trained students of a study are found, and their pairs are counted right."""

import json
import re

import numpy as np
import pytest
from tiny_study import write_study

import hf_clip_kd as kd
from hf_clip_kd.evaluation import build_evaluator
from hf_clip_kd.recipe_io.parser import RecipeParser
from hf_clip_kd.recipe_io.results import read_written
from hf_clip_kd.study.running.arguments import StudyArguments
from hf_clip_kd.study.running.plan import Plan
from recipes.maintenance import binding_table as recipe

CELLS = [{"teacher": None, "objective": "alone", "duration": ["x1", "x2"]}, {"teacher": ["S", "L"]}]


def plan_in(root, **changes):
    """Write the recipe of a study into its folder, and return its plan."""
    root.mkdir()
    parser = RecipeParser(StudyArguments, write_study(root.parent, cells=CELLS, **changes))
    (study,) = parser.parse([])
    parser.save(root / "recipe.yaml", study)
    return Plan(study, recipe.CONFIGS)


def finish(stage, root):
    (root / stage.output).mkdir(parents=True)
    (root / stage.folder / "stage.json").write_text('{"seconds": 1}')
    return root / stage.output


def test_trained_students_are_found_by_objective_teacher_and_seed(tmp_path):
    plan = plan_in(tmp_path / "out", seeds=[0, 1])
    root = tmp_path / "moved"
    (tmp_path / "out").rename(root)
    folders = {}
    for cell, measured in plan.cells.items():
        if (cell.teacher, cell.seed) != ("S", 1):  # not trained yet
            folders[cell.objective, cell.teacher, cell.duration, cell.seed] = finish(measured.training, root)
    found = recipe.trained(root)
    assert list(found) == [
        ("alone", None), ("clip_kd", "S"), ("clip_kd", "L"), ("teacher", "S"), ("teacher", "L"),
    ]  # fmt: skip
    students = {(*name, "x1", seed): at for name, seeds in found.items() for seed, at in seeds.items()}
    students = {key: at for key, at in students.items() if key[0] != "teacher"}
    assert students == {key: folder for key, folder in folders.items() if key[2] == "x1"}
    teacher = plan.models.teacher("L")
    assert found["teacher", "L"] == {0: root / teacher.tower}


def test_numbers_by_hand():
    """Two seeds, two pairs of each change. Scores that do not vary have an interval without width."""
    changes = np.array(recipe.CHANGES * 2)
    alone = np.where(changes == "changed_attribute", 100.0, 0.0)
    bound = np.full(6, 100.0)
    scores = {
        ("alone", None): {3: alone, 4: alone},
        ("tokens", "L"): {3: bound, 4: bound},
        ("teacher", "L"): {0: alone},
    }
    rows = [row.strip("| ").split(" | ") for row in recipe.table(scores, changes).splitlines()[2:]]
    none, all_ = "0.0 [0.0, 0.0]", "100.0 [100.0, 100.0]"
    assert rows == [
        ["`alone`", "–", "2", none, none, all_, "–"],
        ["`tokens`", "`L`", "2", all_, all_, all_, "+100.0 [+100.0, +100.0]"],
        ["teacher", "`L`", "1", none, none, all_, "–"],
    ]


def test_the_gain_is_of_swapped_pairs_of_shared_seeds():
    rng = np.random.default_rng(0)
    changes = np.array(recipe.CHANGES * 200)
    alone, tokens = ({seed: 100.0 * (rng.random(600) < share) for seed in (0, 1)} for share in (0.3, 0.6))
    text = recipe.table({("alone", None): alone, ("tokens", "L"): tokens | {2: np.zeros(600)}}, changes)
    gain = float(re.search(r"\+(\d+\.\d) \[\+", text)[1])
    swapped = changes != "changed_attribute"
    expected = np.mean([tokens[seed][swapped].mean() - alone[seed][swapped].mean() for seed in (0, 1)])
    assert gain == pytest.approx(expected, abs=0.05)


def test_the_table_of_trained_models_goes_between_its_markers(tmp_path, monkeypatch, capsys):
    plan, root = plan_in(tmp_path / "out"), tmp_path / "out"
    model, processor = kd.load_clip("test-vit")
    cells = [plan.cells[cell].training for cell in plan.cells]
    for stage in [*cells, *(plan.models.teacher(name).training for name in "SL")]:
        model.save_pretrained(finish(stage, root))
        processor.save_pretrained(root / stage.output)
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs/evaluation.md"
    page.write_text("a\n<!-- binding: a note -->\nold\n<!-- end of binding -->\nb\n")
    monkeypatch.setattr(recipe, "ROOT", tmp_path)
    blocks = {"compositional": {"dataset_name": "shapes", "split": "compositional", "max_samples": 48}}
    monkeypatch.setattr(recipe, "pairs", lambda: build_evaluator(blocks, kd.load_image_text).evaluators[0])
    text = recipe.main([str(root), "--write"])
    assert page.read_text() == f"a\n<!-- binding: a note -->\n{text}\n<!-- end of binding -->\nb\n"
    assert text in capsys.readouterr().out
    # The stored scores give the table again, without the models.
    record = json.loads((tmp_path / recipe.STORED).read_text())
    assert record["config"]["study"] == "tiny" and len(record["changes"]) == 24
    assert {len(model["text_acc"]) for model in record["models"]} == {24}
    assert recipe.main([]) == text
    rows = [row.strip("| ").split(" | ") for row in text.splitlines()[2:]]
    assert [row[0] for row in rows] == ["`alone`", "`clip_kd`", "`clip_kd`", "teacher", "teacher"]
    # All are the same random model.
    assert len({tuple(row[3:6]) for row in rows}) == 1 and rows[1][6] == "+0.0 [+0.0, +0.0]"


def test_the_table_of_the_page_is_that_of_the_stored_scores():
    page = (recipe.ROOT / recipe.PAGE).read_text()
    assert recipe.MARKED.search(page)[2] == f"{recipe.table_of(read_written(recipe.ROOT / recipe.STORED))}\n"


def test_bad_folders_are_named(tmp_path):
    with pytest.raises(ValueError, match="no `recipe.yaml`.*output folder of a study.*Run `python recipes/study"):
        recipe.main([str(tmp_path / "nothing")])
    plan_in(tmp_path / "out")
    with pytest.raises(ValueError, match="no trained student without a teacher.*teacher: null, objective: alone"):
        recipe.main([str(tmp_path / "out")])
