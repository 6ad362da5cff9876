"""Collect the results of stages into `cells/*.json` and `study.json`. The report reads nothing else."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

import torch
import transformers

from ...recipe_io.results import COST_NAME, METRICS_NAME, data_name, load_results, write_whole
from .grid import Cell
from .plan import Measured, Plan
from .schedule import Ended
from .stages import Stage, with_needed

REPRESENTATION = "representation"
# A recipe's name of a task, and the name in its results.
TASKS = {"zero_shot": "zeroshot_classification", "retrieval": "zeroshot_retrieval"}
# Benchmarks that sum points, with the largest sum.
MOST = {"mme": 2000.0}


def cell_id(plan: Plan, cell: Cell) -> str:
    """Return a readable name. It changes with everything that could change the cell's numbers."""
    measured = plan.cells[cell]
    ends = [stage for stage in (measured.evaluate, measured.vqa) if stage is not None]
    hashes = "".join(stage.id.rpartition("-")[2][: 8 // len(ends)] for stage in ends)
    return "_".join([*cell.words, f"s{cell.seed}", hashes])


def write_cell(plan: Plan, cell: Cell, root: Path, ended: dict[str, Ended]) -> dict[str, Any]:
    """
    Write the file of a cell whose stages have ended, whole or not at all.

    Args:
        root (`Path`): Folder of the study.
        ended (`dict[str, Ended]`): How each stage has ended, by its id.

    Returns:
        `dict`: The content of the file. A cell is `failed` if one of its stages is. It keeps all that was measured.
    """
    measured = plan.cells[cell]
    failed = any(ended[stage.id].outcome != "done" for stage in measured.stages)
    epochs, steps = _length(measured.training, root)
    teacher = plan.teachers.get((cell.teacher, cell.language_model))
    record = {
        "id": cell_id(plan, cell),
        "study": plan.study.name,
        "axes": cell.axes,
        "epochs": epochs,
        "steps": steps,
        "status": "failed" if failed else "done",
    }
    if failed:
        # A skipped stage needs a failed one.
        causes = [ended[stage.id] for stage in with_needed(measured.stages) if ended[stage.id].outcome == "failed"]
        record["error"] = "; ".join(f"{cause.stage.id}: {cause.error}" for cause in causes)
    record |= blocks(measured, root) | {"teacher": None if teacher is None else blocks(teacher, root)}
    write_whole(root / "cells" / f"{record['id']}.json", json.dumps(record, indent=1, allow_nan=False) + "\n")
    return record


def write_study(plan: Plan, root: Path) -> Path:
    """Write `study.json`, with all that is known by now of teachers and references."""
    study = plan.study
    config = {name: value for name, value in asdict(study).items() if name != "dry_run"}
    language_models = list(dict.fromkeys(cell.language_model for cell in plan.cells))
    teachers: dict[str, Any] = {}
    for language_model in language_models:
        for (name, read_by), measured in plan.teachers.items():
            if read_by == language_model:
                teachers.setdefault(name, blocks(measured, root))
    references = {name: vqa_block(stage, root)[0] for name, stage in plan.references.items()}
    for stage in plan.stages:
        oracle = root / stage.output / "oracle.json"
        if stage.kind == "language_model" and oracle.is_file():
            references.setdefault("oracle", _oracle(oracle))
    record = {
        "name": study.name,
        "procedural": study.procedural,
        "cells": [cell_id(plan, cell) for cell in plan.cells],
        "teachers": teachers,
        "references": {name: metrics for name, metrics in references.items() if metrics},
        "machine": machine(study.processes, study.threads),
        "config": config,
    }
    path = root / "study.json"
    write_whole(path, json.dumps(record, indent=1, allow_nan=False) + "\n")
    return path


def blocks(measured: Measured, root: Path) -> dict[str, Any]:
    """Return the numbers of one tower: `student` (zero-shot and retrieval), `vqa`, `cost` and so on."""
    results = _results(measured.evaluate, root)
    representation, maps, scores = {}, {}, {}
    counts = Counter(
        metric for _, record in results for metric in record["metrics"] if record["task"] != REPRESENTATION
    )
    for name, record in results:
        if record["task"] == REPRESENTATION:
            representation[name] = record["metrics"]
            maps[name] = record.get("representation_maps", {})
        else:
            scores |= {
                metric if counts[metric] == 1 else f"{name}/{metric}": value
                for metric, value in record["metrics"].items()
            }
    vqa, correct = ({}, None) if measured.vqa is None else vqa_block(measured.vqa, root)
    return {
        "student": scores,
        "vqa": vqa,
        "vqa_correct": correct,
        "representation": representation,
        "representation_maps": maps,
        "cost": _cost(measured.cost, root),
    }


def vqa_block(stage: Stage, root: Path) -> tuple[dict[str, float], list[float] | None]:
    """
    Return the VQA metrics, and the score of every question, or `None` if a question has none.

    The metrics of several benchmarks have the benchmark's name in front.
    """
    folder = vqa_folder(stage, root)
    records = (
        [record for record in load_results(folder) if record["task"].startswith("vqa_")] if stage.record(root) else []
    )
    if not records:
        return {}, None
    several = len(records) > 1
    metrics = {
        f"{record['dataset']}/{metric}" if several else metric: value
        for record in records
        for metric, value in record["metrics"].items()
    }
    shares = [
        record["metrics"][record["main_metric"]] / MOST.get(record["benchmark"], 1.0)
        for record in records
        if record["main_metric"] in record["metrics"]
    ]
    if shares:
        metrics.setdefault("accuracy", mean(shares))
    scores = [
        json.loads(line)["score"]
        for path in sorted((folder / "samples").glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    whole = [int(score) if score in (0, 1) else score for score in scores]
    return metrics, None if not scores or None in scores else whole


def vqa_folder(stage: Stage, root: Path) -> Path:
    """Return the folder of VQA results. A training that evaluates has them below its model."""
    return root / stage.output if stage.kind == "vqa" else root / stage.output / "results"


def machine(processes: int, threads: int) -> dict[str, Any]:
    """Describe the machine, as far as it may matter to the numbers."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "processes": processes,
        "threads": threads,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _results(stage: Stage, root: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return the results of `evaluate.py`, each with its name in `evaluation`, in the order there."""
    if stage.record(root) is None:
        return []
    written = {(record["task"], record["dataset"]): record for record in load_results(root / stage.output)}
    found = []
    for name, block in stage.arguments["evaluation"].items():
        task = block.get("task", name)
        record = written.get((TASKS.get(task, task), data_name(block)))
        if record is not None:
            found.append((name, record))
    return found


def _length(training: Stage | None, root: Path) -> tuple[float | None, int | None]:
    """Return the epochs and steps of a training that has ended."""
    if training is None or training.record(root) is None:
        return None, None
    lines = (root / training.output / METRICS_NAME).read_text(encoding="utf-8").splitlines()
    last, arguments = json.loads(lines[-1]), training.arguments
    if "datasets" in arguments or arguments.get("streaming"):
        # A stream has no end: the Trainer takes all that it reads for one epoch.
        return arguments.get("num_train_epochs", last["epoch"]), last["step"]
    return last["epoch"], last["step"]


def _cost(stage: Stage, root: Path) -> dict[str, float]:
    if stage.record(root) is None:
        return {}
    cost = json.loads((root / stage.output / COST_NAME).read_text(encoding="utf-8"))["this model"]
    text = {"text_parameters": cost["text"]["parameters"]} if "text" in cost else {}
    return {"vision_parameters": cost["image"]["parameters"], **text, "images_per_second": cost["image"]["per_second"]}


def _oracle(path: Path) -> dict[str, float]:
    scores = json.loads(path.read_text(encoding="utf-8"))
    return {"accuracy": scores["accuracy"]} | {f"{kind}/accuracy": value for kind, value in scores["by_type"].items()}
