"""Real images: handwritten digits as an image folder, through recipes/distill.py."""

from pathlib import Path

import pytest

from recipes import distill, write_digits

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "recipes" / "configs" / "distill"


@pytest.mark.slow
def test_student_learns_handwritten_digits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_digits.main([])

    images = {split: set(Path("outputs/digits/images", split).rglob("*.png")) for split in ("train", "test")}
    assert 0.2 <= len(images["test"]) / 1797 <= 0.25
    assert sum(1 for _ in Path("outputs/digits/few").rglob("*.png")) == 100
    assert not {path.name for path in images["train"]} & {path.name for path in images["test"]}

    # The recipe's own paths start from the repository; the data and the models lie in this test's folder.
    teacher_recipe = str(CONFIGS / "digits_teacher.yaml")
    run = ["--config", str(CONFIGS / "digits.yaml"), "--teacher_recipe", teacher_recipe]
    scores = distill.main(run)
    alone = distill.main(
        [*run, "--teacher_model_name_or_path", "null", "--losses", '{"clip": 1}', "--output_dir", "alone"]
    )

    assert scores["acc1"] > alone["acc1"] > 0.3
    assert Path("outputs/digits/teacher/model.safetensors").is_file()
    assert Path("outputs/digits/distilled/model.safetensors").is_file()
