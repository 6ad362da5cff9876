"""Real images: the handwritten digits that README writes as an image folder, through recipes/distill.py."""

import importlib
import re
from pathlib import Path

import pytest

pytest.importorskip("sklearn")

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "recipes" / "configs" / "distill"


@pytest.mark.slow
def test_student_learns_handwritten_digits(tmp_path, monkeypatch):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = [code for code in re.findall(r"^```python\n(.*?)^```", readme, re.M | re.S) if "load_digits" in code]
    assert len(blocks) == 1, f"README.md has {len(blocks)} python blocks with `load_digits`; one writes the folder"
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT))
    exec(compile(blocks[0], "README.md", "exec"), {"__name__": "__main__"})

    images = {split: set(Path("outputs/digits/images", split).rglob("*.png")) for split in ("train", "test")}
    assert 0.2 <= len(images["test"]) / 1797 <= 0.25
    assert not {path.name for path in images["train"]} & {path.name for path in images["test"]}

    recipe = importlib.import_module("recipes.distill")
    # The recipe's own paths start from the repository; the data and the models lie in this test's folder.
    teacher_recipe = str(CONFIGS / "digits_teacher.yaml")
    scores = recipe.main(["--config", str(CONFIGS / "digits.yaml"), "--teacher_recipe", teacher_recipe])

    assert scores["acc1"] >= 0.85
    assert Path("outputs/digits/teacher/model.safetensors").is_file()
    assert Path("outputs/digits/distilled/model.safetensors").is_file()
