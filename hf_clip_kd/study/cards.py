"""Collect folders for model cards: one student of each condition of a study, with its scores and its teacher's."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..hub.cards import write_card
from ..recipe_io.foreign import ForeignFileError
from ..recipe_io.format_version import NAME as VERSION
from ..recipe_io.format_version import check_version
from ..recipe_io.results import COST_NAME, read_written, save_cost, write_whole
from .cells.metrics import IMAGES
from .running.answers import vqa_folder
from .running.arguments import StudyArguments
from .running.collect import answered, blocks
from .running.grid import SEEDS, Cell
from .running.plan import Measured, Plan

COPIED = ("config.json", "recipe.yaml", "training_args.json", "card.json")


def collect_students(root: Path, configs: Path, runs: Path) -> list[Path]:
    """
    Copy all that the card of a student needs, for the first seed of every condition.

    Args:
        root (`Path`): Output folder of a study, with its stages.
        configs (`Path`): Folder in which the names of YAMLs start.
        runs (`Path`): Parent of the new folders. A folder of the same name is replaced.

    Returns:
        `list[Path]`: The folders, `NAME_TEACHER_OBJECTIVE_...` with the axes that vary.

    Raises:
        ValueError: If there is no `study.json`, or another version wrote it. Also if a stage that a card needs has
            not ended.
    """
    path = root / "study.json"
    if not path.is_file():
        raise ValueError(
            f"`--study {root}` holds no study.json. It must be the output folder of a study. "
            "Run `python recipes/study.py` first."
        )
    record = read_written(path)
    check_version(record, path, "study")
    old = "" if VERSION in record else f" Or its stages have other names: {path} is of the format version 1."
    try:
        plan = Plan(StudyArguments(**record["config"]), configs)
    except (KeyError, TypeError) as error:
        raise ForeignFileError(
            path,
            f"its `config` is that of another version ({error})",
            allowed="Cards are made of a study that this version can run.",
            fix="Run the study again: `python recipes/study.py --config ...`.",
        ) from error
    firsts: dict[Cell, Cell] = {}
    for cell in plan.cells:
        firsts.setdefault(replace(cell, seed=0, vlm_seed=None), cell)
    return [_collect(plan, cell, root, runs / "_".join(_words(plan, cell)), old) for cell in firsts.values()]


def _collect(plan: Plan, cell: Cell, root: Path, folder: Path, old: str) -> Path:
    measured = plan.cells[cell]
    teacher = plan.teacher_of(cell)
    alone = _alone(plan, cell) if cell.teacher is not None else None
    beside = {label: tower for label, tower in (("teacher", teacher), ("student alone", alone)) if tower is not None}
    for tower in (measured, *beside.values()):
        _need(tower, root, old)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in COPIED:
        if (path := root / measured.training.output / name).is_file():
            shutil.copyfile(path, folder / name)
    _copy_results(measured, root, folder)
    write_whole(folder / "representation.json", json.dumps(_representation(plan, measured, root), indent=1) + "\n")
    costs = {"this model": measured} | ({} if teacher is None else {"teacher": teacher})
    save_cost(folder, {label: _cost(tower, root) for label, tower in costs.items()})
    with TemporaryDirectory() as temporary:
        for label, tower in beside.items():
            _copy_results(tower, root, Path(temporary, label))
        compare = {label: Path(temporary, label) for label in beside}
        write_card(folder, name=folder.name.replace("_", "-"), compare=compare).unlink()
    return folder


def _words(plan: Plan, cell: Cell) -> list[str]:
    """Return the study's name and the cell's values on the axes that vary, without the seeds."""
    varying = [axis for axis in cell.axes if axis not in SEEDS and len({other.axes[axis] for other in plan.cells}) > 1]
    return [plan.study.name, *(str(cell.axes[axis]) for axis in varying if cell.axes[axis] is not None)]


def _alone(plan: Plan, cell: Cell) -> Measured | None:
    """Return the same student without a teacher, if the study has one."""
    same = ("student", "duration", "data", "language_model", "reading", "seed", "vlm_seed")
    return next(
        (
            measured
            for other, measured in plan.cells.items()
            if other.teacher is None and all(other.axes[axis] == cell.axes[axis] for axis in same)
        ),
        None,
    )


def _need(measured: Measured, root: Path, old: str) -> None:
    missing = [stage.id for stage in measured.stages if stage.record(root) is None]
    if missing:
        raise ValueError(
            f"`--study {root}`: {', '.join(missing)} has not ended, and a card needs it.{old} "
            "Run `recipes/study.py` again: it goes on."
        )


def _copy_results(measured: Measured, root: Path, folder: Path) -> None:
    (folder / "results").mkdir(parents=True)
    sources = [] if measured.evaluate is None else [root / measured.evaluate.output]
    reading, answers = answered(measured, root)
    if answers is not None:
        sources += [vqa_folder(stage, root) for stage in (answers, *measured.tables.get(reading, {}).values())]
    for source in sources:
        for path in source.glob("*.json"):
            shutil.copyfile(path, folder / "results" / path.name)


def _representation(plan: Plan, measured: Measured, root: Path) -> dict[str, Any]:
    """Return the numbers of the frozen tower: a row for each number, a column for each set of images."""
    rows: dict[str, dict[str, float]] = {}
    for images, numbers in blocks(plan, measured, root)["representation"].items():
        for name, value in numbers.items():
            rows.setdefault(name.replace("_", " "), {})[IMAGES.get(images, images)] = value
    return {"the frozen image tower": rows}


def _cost(measured: Measured, root: Path) -> dict[str, Any]:
    """Return the cost of the architecture, which the study measures once."""
    return read_written(root / measured.cost.output / COST_NAME)["this model"]
