"""The cards in model_cards/ come out of the files of their runs again."""

import json
import shutil

import pytest
from card_folders import CARDS, check_form

from hf_clip_kd.hub.cards import render_card
from recipes.maintenance import model_cards as recipe

RUNS = sorted(path.name for path in (CARDS / "runs").iterdir())
PROCEDURAL = "A demonstration on a procedural world"


@pytest.mark.parametrize("name", RUNS)
def test_committed_card_comes_out_again(name):
    text = (CARDS / f"{name}.md").read_text(encoding="utf-8")
    assert text == render_card(CARDS / "runs" / name), "run `python recipes/maintenance/model_cards.py`"
    card, _ = check_form(text)
    card.validate()  # The Hub on loopback checks it.
    assert PROCEDURAL in text and "procedural-data" in card.data.tags
    # Every number in the metadata is one that was measured.
    results = [json.loads(path.read_text()) for path in (CARDS / "runs" / name / "results").glob("*.json")]
    measured = {
        (r["task"].startswith("vqa"), metric): value for r in results for metric, value in r["metrics"].items()
    }
    assert card.data.eval_results
    for result in card.data.eval_results:
        value = measured[result.task_type == "visual-question-answering", result.metric_name]
        assert result.metric_value == pytest.approx(value, abs=5e-5)
        assert result.dataset_type == "shapes" and "procedural" in result.dataset_name


def test_committed_index_comes_out_again():
    texts = recipe.render()
    assert {path.name for path in CARDS.glob("*.md")} == set(texts) == {f"{name}.md" for name in RUNS} | {"README.md"}
    assert (CARDS / "README.md").read_text(encoding="utf-8") == texts["README.md"]
    assert all(f"]({name}.md)" in texts["README.md"] for name in RUNS)


def test_committed_card_compares_teacher_alone_and_distilled():
    text = (CARDS / "demo_distilled.md").read_text(encoding="utf-8")
    scores = {}
    for name in ("teacher", "alone", "distilled"):
        (path,) = (CARDS / f"runs/demo_{name}/results").glob("*classification.json")
        scores[name] = f"{100 * json.loads(path.read_text())['metrics']['acc1']:.1f}"
    assert "|  | teacher | student alone | this model |" in text
    assert f"| `acc1` | {scores['teacher']} | {scores['alone']} | {scores['distilled']} |" in text
    assert "| teacher, image tower |" in text and "| this model, image tower |" in text


def test_collect_takes_a_run_over_and_refuses_a_foreign_recipe(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "measure_run", lambda run, load, folder: None)
    monkeypatch.chdir(tmp_path)  # away from a demo's teacher that may lie in the repository
    for name in ("alone", "distilled"):
        shutil.copytree(CARDS / f"runs/demo_{name}", tmp_path / "demo" / name)
        (tmp_path / "demo" / name / "card.json").unlink()
    folder = recipe.collect(tmp_path / "demo/distilled", tmp_path / "cards")
    assert folder == tmp_path / "cards/runs/demo_distilled"
    assert "|  | student alone | this model |" in render_card(folder)
    path = tmp_path / "demo/distilled/recipe.yaml"
    path.write_text(path.read_text().replace("max_steps: 450", "max_steps: 7"))
    with pytest.raises(ValueError, match="says `max_steps: 7`.*made with `450`"):
        recipe.collect(tmp_path / "demo/distilled", tmp_path / "cards")
    with pytest.raises(ValueError, match="no finished run"):
        recipe.collect(tmp_path, tmp_path / "cards")
