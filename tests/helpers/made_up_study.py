"""Cell files of a study that nobody ran, with effects that are known."""

import json
from pathlib import Path

import numpy as np

TEACHERS = {"S": 0.28, "M": 0.36, "L": 0.43}
EPOCHS = {"x1": 1.0, "x2": 2.0, "x4": 4.0}
TYPES = ("color_at", "shape_at", "texture_at", "count")
OBJECTIVES = {"fd": 0.04, "icl": 0.02, "crd": 0.0, "clip_kd": 0.05}

# Effects put into the cells: points of the student for each point of its teacher or doubling of the duration.
ZERO_SHOT_SLOPE, VQA_SLOPE = 0.6, 0.0
ZERO_SHOT_DOUBLING, VQA_DOUBLING = 0.04, 0.0
SEED_NOISE = 0.004


def cell(teacher, objective, duration, data, seed, *, student="T", questions=400):
    """One cell; all that is random in it comes from its own axes."""
    rng = np.random.default_rng([*f"{teacher}{objective}{duration}{data}{seed}".encode()])
    shared = np.random.default_rng(seed)  # a lucky seed is lucky for all conditions
    luck = SEED_NOISE * shared.standard_normal()
    doublings = np.log2(EPOCHS[duration])
    strength = 0 if teacher is None else ZERO_SHOT_SLOPE * (TEACHERS[teacher] - 0.28) + OBJECTIVES[objective]
    acc1 = 0.22 + strength + ZERO_SHOT_DOUBLING * doublings + luck + SEED_NOISE * rng.standard_normal()
    right = 0.6 + (0.0 if teacher is None else OBJECTIVES[objective]) + VQA_DOUBLING * doublings + luck
    right += 0.0 if teacher is None else VQA_SLOPE * (TEACHERS[teacher] - 0.28)
    hardness = np.random.default_rng(7).uniform(-0.3, 0.3, questions)
    correct = (rng.random(questions) < right + hardness).astype(int)
    kinds = np.arange(questions) % len(TYPES)
    vqa = {
        "accuracy": correct.mean(),
        **{f"{kind}/accuracy": correct[kinds == i].mean() for i, kind in enumerate(TYPES)},
    }
    representation = {
        "classification": {
            "effective_rank": 8 + 20 * acc1,
            "knn": acc1 + 0.05 * rng.random(),
            "norm_ratio": rng.random(),
        },
        "vqa": {"effective_rank": 9 + 30 * (correct.mean() - 0.6) + rng.random(), "outliers": rng.random()},
    }
    maps = {}
    if teacher is not None:
        representation["classification"]["cka"] = 0.5 + 0.1 * doublings + 0.01 * rng.standard_normal()
        representation["vqa"]["cka"] = 0.4 + 0.01 * rng.standard_normal()
        grid = 0.9 - 0.15 * np.abs(np.subtract.outer(np.linspace(0, 3, 5), np.arange(4)))
        maps = {images: {"cka": grid.tolist()} for images in representation}
    return {
        "id": f"{teacher}-{objective}-{duration}-{data}-{seed}",
        "study": "made-up",
        "axes": {
            "teacher": teacher, "student": student, "objective": objective, "duration": duration, "data": data,
            "seed": seed, "language_model": "tiny", "reading": "default", "vlm_seed": seed,
        },
        "epochs": EPOCHS[duration],
        "steps": int(100 * EPOCHS[duration]),
        "status": "done",
        "student": {
            "acc1": acc1, "image_retrieval_recall@1": acc1 - 0.02,
            "text_retrieval_recall@1": acc1 - 0.03 + 0.01 * rng.random(),
        },
        "vqa": {name: float(value) for name, value in vqa.items()},
        "vqa_correct": correct.tolist(),
        "representation": representation,
        "representation_maps": maps,
        "cost": {
            "vision_parameters": 35_000, "text_parameters": 36_000, "images_per_second": 9000 + 300 * rng.random(),
        },
        "teacher": None,
    }  # fmt: skip


def cells(seeds=(0, 1, 2), **options):
    """Blocks of axes as the miniature has them."""
    found = []
    for seed in seeds:
        found += [cell(None, "clip", duration, "plain", seed, **options) for duration in EPOCHS]
        found += [cell(teacher, "clip_kd", "x1", "plain", seed, **options) for teacher in TEACHERS]
        found += [
            cell("L", objective, "x1", "plain", seed, **options) for objective in OBJECTIVES if objective != "clip_kd"
        ]
        found += [cell("L", "clip_kd", duration, "plain", seed, **options) for duration in ("x2", "x4")]
        found += [cell("L", "clip_kd", "x1", "attributes", seed, **options)]
    return found


def write(folder: Path, some: list[dict], **record) -> Path:
    """The output folder of `recipes/study.py` with these cells."""
    (folder / "cells").mkdir(parents=True)
    for entry in some:
        (folder / "cells" / f"{entry['id']}.json").write_text(json.dumps(entry))
    teachers = {
        name: {
            "student": {"acc1": acc1, "image_retrieval_recall@1": acc1, "text_retrieval_recall@1": acc1},
            "vqa": {"accuracy": 0.66 + acc1 / 5, **{f"{kind}/accuracy": 0.7 + acc1 / 5 for kind in TYPES}},
            "cost": {
                "vision_parameters": 1_200_000 * acc1,
                "text_parameters": 50_000,
                "images_per_second": 900 / acc1,
            },
        }
        for name, acc1 in TEACHERS.items()
    }
    blind, oracle = ({"accuracy": a, **{f"{kind}/accuracy": a for kind in TYPES}} for a in (0.25, 0.99))
    study = {
        "name": "made-up", "config": {}, "cells": [entry["id"] for entry in some],
        "machine": {"cpu": "none", "cores": 2},
        "procedural": True, "teachers": teachers, "references": {"blind": blind, "oracle": oracle},
    }  # fmt: skip
    (folder / "study.json").write_text(json.dumps(study | record))
    return folder
