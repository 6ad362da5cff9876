"""What the model of a finished run costs, for its card: measured on the folders, since a run may be over for long."""

from __future__ import annotations

from pathlib import Path

import yaml
from transformers import AutoConfig

from .evaluation.cost import measure_cost, save_cost
from .models import load_clip
from .vlm import load_llava


def measure_run(folder: str | Path, output_dir: str | Path | None = None) -> Path:
    """
    Writes `cost.json`: of the model in a folder and, if the recipe names one in a folder, of its teacher.

    Args:
        folder (`str` or `Path`): Of a dual encoder or a LLaVA.
        output_dir (`str` or `Path`, *optional*, defaults to `folder`): Where the file goes.

    Returns:
        `Path`: that of the file.
    """
    folder = Path(folder)
    models = {"this model": folder}
    recipe = folder / "recipe.yaml"
    values = yaml.safe_load(recipe.read_text(encoding="utf-8")) if recipe.is_file() else {}
    teacher = values.get("teacher_model_name_or_path")
    if isinstance(teacher, str) and Path(teacher, "config.json").is_file():
        models["teacher"] = Path(teacher)
    return save_cost(output_dir or folder, {role: measure_cost(*_load(model)) for role, model in models.items()})


def _load(folder: Path):
    vlm = AutoConfig.from_pretrained(folder).model_type == "llava"
    return load_llava(folder) if vlm else load_clip(folder)


__all__ = ["measure_run"]
