"""The smallest study with everything in it: two teachers, both objectives, two durations; seconds a stage."""

import yaml

SMALL = {"per_device_train_batch_size": 8, "warmup_steps": 1, "logging_steps": 2, "save_steps": 2}
BLOCK = {"task": "representation", "dataset_name": "shapes", "max_samples": 120}
TINY = {
    "name": "tiny",
    "procedural": True,
    "teachers": {
        "S": {
            "recipe": "shapes/teacher.yaml",
            "model_name_or_path": "test-vit",
            "max_steps": 2,
            "max_train_samples": 64,
        }
        | SMALL,
        "L": {
            "recipe": "shapes/teacher.yaml",
            "model_name_or_path": "test-vit",
            "max_steps": 4,
            "max_train_samples": 64,
        }
        | SMALL,
    },
    "students": {"vit": "test-vit"},
    "objectives": {"clip_kd": "clip_kd", "alone": {"clip": 1.0}},
    "durations": {"x1": 1, "x2": 2},
    "data": {
        "plain": {"dataset_name": "shapes", "max_train_samples": 64},
        "objects": {
            "datasets": [
                {"dataset_name": "shapes", "max_samples": 32, "weight": 1},
                {"dataset_name": "shapes", "split": "zero_shot", "seed": 1, "max_samples": 32, "weight": 1},
            ]
        },
    },
    "language_models": {
        "tiny": {
            "recipe": "shapes/language_model.yaml",
            "hidden_size": 32,
            "num_attention_heads": 2,
            "max_train_samples": 64,
            "max_test_samples": 24,
            "max_steps": 2,
            "least_accuracy": None,
        }
        | SMALL
    },
    "seeds": [0],
    "cells": [
        {"teacher": None, "objective": "alone"},
        {"teacher": ["S", "L"]},
        {"teacher": "L", "data": "objects", "duration": "x2"},
    ],
    "distill": {"recipe": "shapes/student.yaml", "max_steps": 4} | SMALL,
    "cache": "shapes/cache.yaml",
    "evaluate": {
        "recipe": "shapes/evaluate.yaml",
        "evaluation": {
            "zero_shot": {"dataset_name": "shapes", "split": "zero_shot", "max_samples": 64},
            "retrieval": {"dataset_name": "shapes", "split": "retrieval", "max_samples": 32},
        },
    },
    "representation": {
        "classification": BLOCK | {"split": "zero_shot"},
        "vqa": BLOCK | {"split": "test", "vqa": True},
    },
    "reference_teacher": "L",
    "vlm": [
        {
            "recipe": "shapes/vlm.yaml",
            "max_train_samples": 48,
            "max_steps": 4,
            "score_at_steps": None,
            "evaluation": {"shapes": {"split": "test", "max_samples": 24, "batch_size": 24}},
        }
        | SMALL
    ],
    "references": {"blind": None},
    "processes": 2,
    "estimates": {
        "language_model": 12,
        "teacher": 10,
        "cache": 9,
        "student": 10,
        "evaluate": 15,
        "vlm": 12,
        "cost": 9,
    },
}


def write_study(folder, **changes):
    """A YAML of the tiny study for `--config`, with its output in `folder`/out."""
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(TINY | {"output_dir": str(folder / "out")} | changes, sort_keys=False))
    return path
