"""Cells of a study as its report sees them: read from JSONs and arranged along one axis."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...recipe_io.foreign import fields, read_json
from .metrics import ZERO_SHOT, Metric
from .questions import without_blind

AXES = ("teacher", "student", "objective", "duration", "data", "language_model", "reading")


@dataclass
class Sweep:
    """Cells that differ in one axis and in their seeds only."""

    axis: str = field(metadata={"help": "One of `AXES`."})
    fixed: dict[str, Any] = field(metadata={"help": "The value of each other axis."})
    cells: dict[Any, list[dict]] = field(metadata={"help": "Value of the axis, in the order to show, to its cells."})

    def label(self, among: list[Sweep]) -> str:
        """Return a label that tells the sweep from others: the axes that differ among them."""
        differing = [axis for axis in self.fixed if len({str(other.fixed[axis]) for other in among}) > 1]
        words = {"teacher": f"from {self.fixed.get('teacher')}"}
        if self.fixed.get("teacher", "") is None:  # Only the objective is left then.
            words = {"teacher": "no teacher", "objective": ""}
        return ", ".join(filter(None, (words.get(axis, str(self.fixed[axis])) for axis in differing)))


@dataclass(eq=False)  # It equals itself alone, so functions of it can be cached.
class Study:
    """Contents of `study.json` and `cells/*.json`."""

    record: dict[str, Any] = field(metadata={"help": "The content of `study.json`."})
    cells: list[dict[str, Any]] = field(metadata={"help": "The cells that are done, in the order of the study."})
    failed: list[dict[str, Any]] = field(metadata={"help": "The cells that ended with an error."})
    missing: int = field(metadata={"help": "Number of cells that have not ended yet."})
    runs: list[dict[str, Any]] = field(
        default_factory=list, metadata={"help": "The same cells, each of a single VLM seed."}
    )
    left_out: str | None = field(
        default=None, metadata={"help": "Sentence that counts the questions left out, if some are."}
    )

    @property
    def has_vqa(self) -> bool:
        """False for a study without a vision-language model."""
        return self.record["config"].get("vlm") != []

    def teacher_score(self, name: str, metric: Metric) -> float:
        """Return a teacher's own score; nan if it was not measured."""
        value = metric.of(self.record["teachers"].get(name) or {})
        return math.nan if value is None else value

    def sweeps(self, axis: str, *, fewest: int = 2) -> list[Sweep]:
        """
        Return the sweeps along an axis, those with most values first, then those with most cells.

        Sweeps without a teacher come last.

        Args:
            axis (`str`): One of `AXES`.
            fewest (`int`, *optional*, defaults to 2): Smallest number of values of the axis.
        """
        groups: dict[tuple, dict[Any, list[dict]]] = {}
        for cell in self.cells:
            value = cell["axes"].get(axis)
            # A cell without a teacher is the reference of the others, not one more teacher or objective.
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
        """Return the first of [`sweeps`], if there is one."""
        return next(iter(self.sweeps(axis, fewest=fewest)), None)

    def _ordered(self, axis: str, cells: dict[Any, list[dict]]) -> dict[Any, list[dict]]:
        if axis == "duration":
            return dict(sorted(cells.items(), key=lambda item: item[1][0]["epochs"]))
        if axis == "teacher":
            return dict(sorted(cells.items(), key=lambda item: self.strength(item[0])))
        return cells

    def strength(self, teacher: str) -> float:
        """Return a teacher's own zero-shot accuracy."""
        return self.teacher_score(teacher, ZERO_SHOT)

    def without_teacher(self, like: dict[str, Any]) -> list[dict]:
        """
        Return the cells without a teacher that equal `like` in student, duration, data and language model.

        A study may train several objectives without a teacher. The first of them counts.
        """
        same = ("student", "duration", "data", "language_model", "reading")
        found = [
            cell
            for cell in self.cells
            if cell["axes"]["teacher"] is None and all(cell["axes"].get(axis) == like.get(axis) for axis in same)
        ]
        return [cell for cell in found if cell["axes"]["objective"] == found[0]["axes"]["objective"]]


def read_study(folder: str | Path, *, leave_out_blind: bool = False) -> Study:
    """
    Read the output folder of `recipes/study.py`; the study may still be running.

    Args:
        leave_out_blind (`bool`, *optional*, defaults to `False`):
            Leave out the questions that the blind model answers right. `study.json` may demand it, too.

    Raises:
        ValueError: There is no `study.json`, or no cell that is done. Or no question can be left out, see
            [`without_blind`].
    """
    folder = Path(folder)
    if not (folder / "study.json").is_file():
        raise ValueError(
            f"{str(folder)!r} holds no `study.json`. A report is made of the output folder of a study. "
            "Pass that folder, or run `python recipes/study.py` first."
        )
    words = {"allowed": "It must be a file that a study wrote.", "fix": "Run `python recipes/study.py` again."}
    record = read_json(folder / "study.json", **words)
    (names,) = fields(record, {"cells": list[str]}, folder / "study.json", where="the file", **words)
    paths = [folder / "cells" / f"{cell}.json" for cell in names]
    cells = {path: read_json(path, **words) for path in paths if path.is_file()}
    for path, cell in cells.items():
        fields(cell, {"status": str}, path, where="the cell", **words)
    cells = list(cells.values())
    done = [cell for cell in cells if cell["status"] == "done"]
    if not done:
        raise ValueError(
            f"The study {str(folder / 'study.json')!r} has no cell that is done ({len(cells)} of {len(paths)} have "
            "ended, all with an error). A report needs one at least. Run `python recipes/study.py` again: it makes "
            "what is missing."
        )
    left_out = None
    if leave_out_blind or record["config"].get("leave_out_blind"):
        record, done, left_out = without_blind(record, done)
    return Study(
        record, done, [cell for cell in cells if cell["status"] == "failed"], len(paths) - len(cells), done, left_out
    )


def condition(cell: dict, without: str | None = None) -> tuple:
    """Return the values of all axes but the seed and the axis `without`."""
    return tuple(cell["axes"].get(axis) for axis in AXES if axis != without)


def scores(cells: Iterable[dict], metric: Metric) -> dict[int, float]:
    """Return seed -> score of the cells of one condition that have the metric."""
    found = {cell["axes"]["seed"]: metric.of(cell) for cell in cells}
    return {seed: value for seed, value in sorted(found.items()) if value is not None}
