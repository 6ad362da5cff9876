"""Smallest run of a recipe."""

from pathlib import Path

import hf_clip_kd as kd
from hf_clip_kd.recipe_io.parser import RecipeParser
from recipes import distill

ROOT = Path(__file__).parents[2]


def distill_parser(path):
    """Return the parser of distill.py with a YAML of defaults."""
    return RecipeParser((distill.DistillArguments, kd.DistillationTrainingArguments), path)


def with_class_names(evaluation):
    """Return an evaluation with the names of two classes in the place of each file of names."""
    return {
        name: block | {"class_names": ["0", "1"]} if str(block.get("class_names")).endswith(".json") else block
        for name, block in evaluation.items()
    }


TINY = {
    "model_name_or_path": "test-vit",
    "dataset_name": "shapes",
    "max_train_samples": 48,
    "crop_scale": [0.9, 1.0],
    "max_steps": 2,
    "per_device_train_batch_size": 16,
    "logging_steps": 1,
    "save_strategy": "no",
    "use_cpu": True,
    "disable_tqdm": True,
}
