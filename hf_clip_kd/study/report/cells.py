"""The cells of a study as its report sees them: read from JSONs, and put side by side along one axis."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .metrics import VQA, ZERO_SHOT, Metric

AXES = ("teacher", "student", "objective", "duration", "data", "language_model")


@dataclass
class Sweep:
    """Cells that differ in one axis and in their seeds, and in nothing else."""

    axis: str = field(metadata={"help": "One of `AXES`."})
    fixed: dict[str, Any] = field(metadata={"help": "The value of each other axis."})
    cells: dict[Any, list[dict]] = field(metadata={"help": "Value of the axis, in the order to show, to its cells."})

    def label(self, among: list[Sweep]) -> str:
        """What tells it from others: the axes that are not the same for all of them."""
        differing = [axis for axis in self.fixed if len({str(other.fixed[axis]) for other in among}) > 1]
        words = {"teacher": f"from {self.fixed.get('teacher')}"}
        if self.fixed.get("teacher", "") is None:  # its objective is what is left without one
            words = {"teacher": "no teacher", "objective": ""}
        return ", ".join(filter(None, (words.get(axis, str(self.fixed[axis])) for axis in differing)))


@dataclass(eq=False)  # equal to itself alone, so that what is computed of it can be remembered
class Study:
    """What `study.json` and `cells/*.json` hold."""

    record: dict[str, Any] = field(metadata={"help": "The content of `study.json`."})
    cells: list[dict[str, Any]] = field(metadata={"help": "The cells that are done, in the order of the study."})
    failed: list[dict[str, Any]] = field(metadata={"help": "The cells that ended with an error."})
    missing: int = field(metadata={"help": "How many cells have not ended yet."})

    @property
    def has_vqa(self) -> bool:
        """False for a study without a vision-language model."""
        return self.record["config"].get("vlm") != []

    def teacher_score(self, name: str, metric: Metric) -> float:
        """A teacher's own score; nan if it was not measured."""
        value = metric.of(self.record["teachers"].get(name) or {})
        return math.nan if value is None else value

    def sweeps(self, axis: str, *, fewest: int = 2) -> list[Sweep]:
        """
        What can be compared along an axis: those with most values first, then with most cells, those without a teacher last.

        Args:
            axis (`str`): One of `AXES`.
            fewest (`int`, *optional*, defaults to 2): How many values of the axis there must be.
        """
        groups: dict[tuple, dict[Any, list[dict]]] = {}
        for cell in self.cells:
            value = cell["axes"].get(axis)
            # Without a teacher a cell is what the others are compared with, and not one more teacher or objective.
            if value is not None and not (axis == "objective" and cell["axes"]["teacher"] is None):
                groups.setdefault(condition(cell, without=axis), {}).setdefault(value, []).append(cell)
        others = [other for other in AXES if other != axis]
        found = [
            Sweep(axis, dict(zip(others, key, strict=True)), self._ordered(axis, cells))
            for key, cells in groups.items()
            if len(cells) >= fewest
        ]
        return sorted(
            found, key=lambda s: (s.fixed.get("teacher", "") is None, -len(s.cells), -sum(map(len, s.cells.values())))
        )

    def main_sweep(self, axis: str, *, fewest: int = 2) -> Sweep | None:
        """The first of [`sweeps`], if there is one."""
        return next(iter(self.sweeps(axis, fewest=fewest)), None)

    def _ordered(self, axis: str, cells: dict[Any, list[dict]]) -> dict[Any, list[dict]]:
        if axis == "duration":
            return dict(sorted(cells.items(), key=lambda item: item[1][0]["epochs"]))
        if axis == "teacher":
            return dict(sorted(cells.items(), key=lambda item: self.strength(item[0])))
        return cells

    def strength(self, teacher: str) -> float:
        """How good a teacher is by itself: its zero-shot accuracy."""
        return self.teacher_score(teacher, ZERO_SHOT)

    def without_teacher(self, like: dict[str, Any]) -> list[dict]:
        """The cells of the same student that had no teacher, equal to `like` in all else that a teacher does not decide.

        A study may train several objectives without a teacher. Its first one counts.
        """
        same = ("student", "duration", "data", "language_model")
        found = [
            cell
            for cell in self.cells
            if cell["axes"]["teacher"] is None and all(cell["axes"].get(axis) == like.get(axis) for axis in same)
        ]
        return [cell for cell in found if cell["axes"]["objective"] == found[0]["axes"]["objective"]]


def read_study(folder: str | Path) -> Study:
    """
    Reads what `recipes/study.py` left in its output folder, also while it is still at work.

    Raises:
        ValueError: if there is no `study.json`, or no cell that is done.
    """
    folder = Path(folder)
    if not (folder / "study.json").is_file():
        raise ValueError(
            f"{str(folder)!r} holds no `study.json`. A report is made of the output folder of a study. "
            "Pass that folder, or run `python recipes/study.py` first."
        )
    record = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    paths = [folder / "cells" / f"{cell}.json" for cell in record["cells"]]
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]
    done = [cell for cell in cells if cell["status"] == "done"]
    if not done:
        raise ValueError(
            f"{str(folder)!r} holds no cell that is done ({len(cells)} of {len(paths)} have ended, all with an error). "
            "A report needs one at least. Run `python recipes/study.py` again: it makes what is missing."
        )
    return Study(record, done, [cell for cell in cells if cell["status"] == "failed"], len(paths) - len(cells))


def condition(cell: dict, without: str | None = None) -> tuple:
    """The values of all axes but the seed, and but one more."""
    return tuple(cell["axes"].get(axis) for axis in AXES if axis != without)


def scores(cells: Iterable[dict], metric: Metric) -> dict[int, float]:
    """Seed to score, of the cells of one condition that have the metric."""
    found = {cell["axes"]["seed"]: metric.of(cell) for cell in cells}
    return {seed: value for seed, value in sorted(found.items()) if value is not None}


def outcomes(conditions: Iterable[list[dict]], metric: Metric) -> np.ndarray:
    """
    Scores as [`contrast`] takes them, `(conditions, seeds, questions)`, of the seeds that all conditions have; in per cent
    where the metric is.

    Single questions for VQA, where all cells have kept them and their mean is the score, which of several benchmarks it is
    not; else one mean for each cell.
    """
    by_seed = [{cell["axes"]["seed"]: cell for cell in cells if metric.of(cell) is not None} for cells in conditions]
    seeds = sorted(set.intersection(*(set(cells) for cells in by_seed)))
    chosen = [[cells[seed] for seed in seeds] for cells in by_seed]
    means = np.array([[[metric.of(cell)] for cell in cells] for cells in chosen], float).reshape(len(by_seed), -1, 1)
    questions = [[cell.get("vqa_correct") or () for cell in cells] for cells in chosen]
    if metric != VQA or len({len(one) for cells in questions for one in cells} | {0}) != 2:
        return means
    single = 100 * np.array(questions, float)
    return single if np.allclose(single.mean(axis=2, keepdims=True), means) else means
