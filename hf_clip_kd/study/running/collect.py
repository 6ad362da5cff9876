"""Collect the results of stages into `cells/*.json` and `study.json`. The report reads nothing else."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers

from ...recipe_io.foreign import read_json
from ...recipe_io.format_version import check_version, stamped
from ...recipe_io.results import (
    COST_NAME,
    MAIN,
    METRICS_NAME,
    data_names,
    load_results,
    read_written,
    read_written_lines,
    write_whole,
)
from .answers import NOTHING, answering_stages, answers_block, averaged, image_tokens, tables_block, validation_score
from .grid import Cell, Reader
from .plan import Measured, Plan
from .readings import chooses, readings_of
from .schedule import Ended
from .stages import Stage, digits, with_needed

REPRESENTATION = "representation"
SEED = 42  # Default of `transformers.TrainingArguments`.
# A recipe's name of a task, and the name in its results.
TASKS = {
    "zero_shot": "zeroshot_classification",
    "retrieval": "zeroshot_retrieval",
    "multilingual_retrieval": "zeroshot_retrieval",
    "compositional": "image_caption_selection",
}
# Keys of the single questions and of the curve. A tower has them once, in `towers`.
LONG = ("vqa_bits", "vqa_images", "vqa_types", "curve")


def cell_id(plan: Plan, cell: Cell) -> str:
    """Return a readable name. It changes with everything that could change the cell's numbers."""
    measured = plan.cells[cell]
    asked = [*measured.readings.values(), *(stage for group in measured.tables.values() for stage in group.values())]
    answers = [stage.id.rpartition("-")[2] for stage in asked]
    ends = [measured.evaluate.id.rpartition("-")[2], *([digits(answers)] if len(answers) > 1 else answers)]
    hashes = "".join(end[: 8 // len(ends)] for end in ends)
    seeds = [f"s{cell.seed}", *([f"v{cell.vlm_seed}"] if cell.is_repeat else [])]
    return "_".join([*cell.words, *seeds, hashes])


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
    teacher = plan.teacher_of(cell)
    record = {
        "id": cell_id(plan, cell),
        "study": plan.study.name,
        "axes": cell.axes,
        "epochs": epochs,
        "steps": steps,
        "status": "failed" if failed else "done",
    }
    if failed:
        # A skipped stage needs a failed one. What an earlier run has made may need one that has not ended.
        ends = [ended.get(stage.id) for stage in with_needed(measured.stages)]
        causes = [end for end in ends if end is not None and end.outcome == "failed"]
        record["error"] = "; ".join(f"{cause.stage.id}: {cause.error}" for cause in causes)
    record |= blocks(plan, measured, root) | {"seconds": seconds(measured, root)}
    record["teacher"] = None if teacher is None else _short(blocks(plan, teacher, root))
    write_whole(root / "cells" / f"{record['id']}.json", json.dumps(record, indent=1, allow_nan=False) + "\n")
    return record


def check_study(root: Path) -> None:
    """
    Refuse to go on in the folder of a study that a later version of the package began.

    Raises:
        ForeignFileError: A later version wrote its `study.json`, or the file is damaged.
    """
    path = root / "study.json"
    if path.is_file():
        words = {"allowed": "It must be as this package wrote it.", "fix": "Delete it: it is written anew."}
        check_version(read_json(path, **words), path, "study")


def write_study(plan: Plan, root: Path) -> Path:
    """Write `study.json`, with all that is known by now of teachers and references."""
    study = plan.study
    config = {name: value for name, value in asdict(study).items() if name != "dry_run"}
    towers = [
        (name, kind, reader, measured, blocks(plan, measured, root))
        for kind, group in (("teacher", plan.teachers), ("reference", plan.references))
        for (name, reader), measured in group.items()
    ]
    # The tables and findings show one language model and reading, each number as the mean over VLM seeds.
    first, order = next(iter(plan.cells)).language_model, list(readings_of(study)) or [None]
    readers = [cell.reader for cell in plan.cells if cell.language_model == first]
    reading = min((reader.reading for reader in readers), key=order.index)
    shown: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for name, kind, reader, _, block in towers:
        if (reader.language_model, reader.reading) == (first, reading):
            shown.setdefault((kind, name), []).append(block)
    teachers = {
        name: _short(parts[0]) | averaged(parts) | {"strength": study.teachers[name].get("strength", name)}
        for (kind, name), parts in shown.items()
        if kind == "teacher"
    }
    references = {name: averaged(parts)["vqa"] for (kind, name), parts in shown.items() if kind == "reference"}
    oracles = _oracles(plan, root)
    if oracles:
        references.setdefault("oracle", next(iter(oracles.values())))
    record = {
        "name": study.name,
        "procedural": study.procedural,
        "cells": [cell_id(plan, cell) for cell in plan.cells],
        "teachers": teachers,
        "references": {name: metrics for name, metrics in references.items() if metrics},
        "oracles": oracles,
        "towers": [_tower(*tower, root) for tower in towers if tower[3].vqa is not None],
        "machine": machine(study.processes, study.threads),
        "config": config,
    }
    path = root / "study.json"
    write_whole(path, json.dumps(stamped(record, "study"), indent=1, allow_nan=False) + "\n")
    return path


def blocks(plan: Plan, measured: Measured, root: Path) -> dict[str, Any]:
    """
    Return the numbers of one tower: `student` (zero-shot, retrieval, compositional), `vqa`, `cost` and so on.

    Of several data sets with the same number, that of the task's own name (`retrieval`) keeps the plain key. The
    others have theirs in front: `photographs/image_retrieval_recall@10`.

    `question_probe` has the probe's own learning curve over images, by the name of the image set. `vqa_tables` is only
    there if the study has such sets.
    """
    results = _results(measured.evaluate, root)
    tasks = Counter(record["task"] for _, record in results)
    representation, maps, probes, scores = {}, {}, {}, {}
    counts = Counter(
        metric for _, record in results for metric in record["metrics"] if record["task"] != REPRESENTATION
    )
    for name, record in results:
        if record["task"] == REPRESENTATION:
            representation[name] = record["metrics"]
            maps[name] = record.get("representation_maps", {})
            if "question_probe" in record:
                probes[name] = record["question_probe"]
        else:
            scores |= {
                metric if counts[metric] == 1 or name in TASKS else f"{name}/{metric}": value
                for metric, value in record["metrics"].items()
            }
            # Chance differs between several benchmarks, so each has a number of its own.
            if "main_metric" in record and tasks[record["task"]] > 1:
                scores[f"{name}{MAIN}"] = record["metrics"][record["main_metric"]]
    reading, stage = answered(measured, root)
    tables = measured.tables.get(reading)
    return {
        "student": scores,
        **(NOTHING if stage is None else answers_block(stage, root, chooses=chooses(plan.study))),
        "image_tokens": None if stage is None else image_tokens(stage, root),
        "chosen": reading if len(measured.readings) > 1 else None,
        "representation": representation,
        "representation_maps": maps,
        "question_probe": probes,
        "cost": _cost(measured.cost, root),
        **({} if tables is None else {"vqa_tables": tables_block(tables, root)}),
    }


def answered(measured: Measured, root: Path) -> tuple[str | None, Stage | None]:
    """
    Return the reading whose answers count, with its stage: the only one, or the best on the benchmark `validation`.

    Both are `None` without a vision-language model, or before all readings to choose from have ended.
    """
    if len(measured.readings) < 2:
        return next(iter(measured.readings.items()), (None, None))
    scores = {name: validation_score(stage, root) for name, stage in measured.readings.items()}
    if None in scores.values():
        return None, None
    best = max(scores, key=scores.get)
    return best, measured.readings[best]


def seconds(measured: Measured, root: Path) -> dict[str, float | None]:
    """Return the measured seconds of a tower's training, of its vision-language models, and of its evaluation."""
    answering = {stage.id: stage for last in measured.readings.values() for stage in answering_stages(last)}
    parts = {"student": [measured.training], "vlm": [*answering.values()], "evaluate": [measured.evaluate]}
    found: dict[str, float | None] = {}
    for name, stages in parts.items():
        records = [None if stage is None else stage.record(root) for stage in stages]
        known = records and None not in records
        found[name] = round(sum(record["seconds"] for record in records), 1) if known else None
    return found


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


def _short(block: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in block.items() if name not in LONG}


def _tower(
    name: str, kind: str, reader: Reader, measured: Measured, block: dict[str, Any], root: Path
) -> dict[str, Any]:
    """Return an entry of `towers`. Without a VLM seed of the study it has that of the training's YAML."""
    training = answering_stages(measured.vqa)[0]
    axes = asdict(reader) | {"vlm_seed": training.arguments.get("seed", SEED)}
    answers = {key: block[key] for key in (*NOTHING, "chosen", "representation")}
    return {"name": name, "kind": kind, "axes": axes} | answers | {"seconds": seconds(measured, root)}


def _results(stage: Stage | None, root: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return the results of `evaluate.py`, each with its name in `evaluation`, in the order there."""
    if stage is None or stage.record(root) is None:
        return []
    written = {(record["task"], record["dataset"]): record for record in load_results(root / stage.output)}
    found, evaluation = [], stage.arguments["evaluation"]
    for name, data in data_names(evaluation).items():
        task = evaluation[name].get("task", name)
        record = written.get((TASKS.get(task, task), data))
        if record is not None:
            found.append((name, record))
    return found


def _length(training: Stage | None, root: Path) -> tuple[float | None, int | None]:
    """Return the epochs and steps of a training that has ended."""
    if training is None or training.record(root) is None:
        return None, None
    last, arguments = read_written_lines(root / training.output / METRICS_NAME)[-1], training.arguments
    if "datasets" in arguments or arguments.get("streaming"):
        # A stream has no end: the Trainer takes all that it reads for one epoch.
        return arguments.get("num_train_epochs", last["epoch"]), last["step"]
    return last["epoch"], last["step"]


def _cost(stage: Stage | None, root: Path) -> dict[str, float]:
    if stage is None or stage.record(root) is None:
        return {}
    cost = read_written(root / stage.output / COST_NAME)["this model"]
    text = {"text_parameters": cost["text"]["parameters"]} if "text" in cost else {}
    return {"vision_parameters": cost["image"]["parameters"], **text, "images_per_second": cost["image"]["per_second"]}


def _oracles(plan: Plan, root: Path) -> dict[str, dict[str, float]]:
    """Return what each language model answered to true descriptions, if it was asked when it was made."""
    found = {}
    for name in dict.fromkeys(cell.language_model for cell in plan.cells if cell.language_model is not None):
        model, _ = plan.models.language_model(name)
        # The output of a stage lies in the study's folder.
        path = (Path() if isinstance(model, str) else root) / model / "oracle.json"
        if path.is_file():
            scores = read_written(path)
            by_type = {f"{kind}/accuracy": value for kind, value in scores["by_type"].items()}
            found[name] = {"accuracy": scores["accuracy"]} | by_type
    return found
