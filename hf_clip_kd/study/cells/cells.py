"""Cells of a study as its report sees them: read from JSONs and arranged along one axis."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...recipe_io.foreign import fields, read_json
from ...recipe_io.format_version import check_version
from ...recipe_io.results import MAIN
from .graded import graded, type_counts
from .headline import headline_metrics, headline_of, with_headline
from .merge import merged
from .metrics import METERS, ZERO_SHOT, Metric, main_scores, question_types
from .questions import without_blind
from .towers import own_record, with_towers

BASE = "clip_kd"
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
    cells: list[dict[str, Any]] = field(
        metadata={"help": "The cells that are done, in the order of the study; means over the VLM's seeds."}
    )
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

    @property
    def meter(self) -> Metric:
        """Number that the findings call VQA; the study's YAML names it."""
        return METERS[self.record["config"].get("meter") or "accuracy"]

    @property
    def columns(self) -> tuple[Metric, ...]:
        """Numbers of the tables, the main metric of each of several benchmarks of captions among them."""
        names = dict.fromkeys(name for cell in self.cells for name in main_scores(cell.get("student") or {}))
        mains = (Metric(name, ("student",), f"{name}{MAIN}") for name in names)
        return (*headline_metrics(self.record), *mains)

    @property
    def reading(self) -> str | None:
        """First way to read the towers, of which all findings are."""
        used = dict.fromkeys(cell["axes"].get("reading") for cell in self.cells)
        names = [name for name in self.record["config"].get("readings") or () if name in used]
        return next(iter([*names, *used]))

    @property
    def read_first(self) -> list[dict[str, Any]]:
        """Cells of the first reading."""
        return [cell for cell in self.cells if cell["axes"].get("reading") == self.reading]

    def teacher_score(self, name: str, metric: Metric) -> float:
        """Return a teacher's own score; nan if it was not measured."""
        value = metric.of(self.record["teachers"].get(name) or {})
        return math.nan if value is None else value

    def own_score(self, teacher: str, like: dict[str, Any], metric: Metric) -> float:
        """Return a teacher's own score, read by the language model and in the way of `like`; nan if not measured."""
        value = metric.of(own_record(self.record, like | {"teacher": teacher}))
        return math.nan if value is None else value

    def lifted_from(self, teacher: str) -> str:
        """Return the teacher whose tower a teacher is, trained on inside a vision-language model; else itself."""
        entry = (self.record["config"].get("teachers") or {}).get(teacher)
        return entry.get("lift", teacher) if isinstance(entry, dict) else teacher

    @property
    def base(self) -> str | None:
        """
        Objective that all others are compared with: the study's own choice, else `clip_kd`.

        Without both it is the objective with most cells. A student alone has no objective in this sense.
        """
        counts = Counter(cell["axes"]["objective"] for cell in self.cells if cell["axes"]["teacher"] is not None)
        for name in (self.record["config"].get("base_objective"), BASE):
            if name in counts:
                return name
        return max(counts, key=counts.get, default=None)

    def sweeps(self, axis: str, *, fewest: int = 2) -> list[Sweep]:
        """
        Return the sweeps along an axis, those with most values first, then those with most cells.

        Sweeps without a teacher come later, and those of another reading last. Of equals, the strongest teacher and
        the longest training come first. Over teachers, those of the study's own `base_objective` come before others.

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
        named = self.record["config"].get("base_objective") if axis == "teacher" else None
        found = [
            Sweep(axis, dict(zip(others, key, strict=True)), self._ordered(axis, cells))
            for key, cells in groups.items()
            if len(cells) >= fewest
        ]
        return sorted(
            found,
            key=lambda sweep: (
                sweep.fixed.get("reading", self.reading) != self.reading,
                sweep.fixed.get("teacher", "") is None,
                named is not None and sweep.fixed.get("objective", named) != named,
                -len(sweep.cells),
                -sum(map(len, sweep.cells.values())),
                -self._strength_or_length(sweep),
            ),
        )

    def _strength_or_length(self, sweep: Sweep) -> float:
        """Return what decides between equally large sweeps: the strongest teacher, or the longest training."""
        if (teacher := sweep.fixed.get("teacher")) is not None:
            strength = self.strength(teacher)
            return strength if math.isfinite(strength) else 0.0
        return next(iter(sweep.cells.values()))[0]["steps"]

    def main_sweep(self, axis: str, *, fewest: int = 2) -> Sweep | None:
        """Return the first of [`sweeps`], if there is one."""
        return next(iter(self.sweeps(axis, fewest=fewest)), None)

    def _ordered(self, axis: str, cells: dict[Any, list[dict]]) -> dict[Any, list[dict]]:
        if axis == "duration":
            # A stream counts as one epoch, however long it is.
            return dict(sorted(cells.items(), key=lambda item: item[1][0]["steps"]))
        if axis == "teacher":
            return dict(sorted(cells.items(), key=lambda item: self.strength(item[0])))
        return cells

    def strength(self, teacher: str) -> float:
        """Return a teacher's own zero-shot accuracy; a teacher without texts comes below all others."""
        score = self.teacher_score(teacher, ZERO_SHOT)
        return score if math.isfinite(score) else -math.inf

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
        ValueError: There is no `study.json`, or a later version of the package wrote it. No cell is done, or
            `headline` names an unknown score. `ungraded` names an unknown type, or no question can be left out, see
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
    check_version(record, folder / "study.json", "study")
    kinds = {"cells": list[str], "config": dict, "teachers": dict, "references": dict | None, "towers": list | None}
    names, _, teachers, *_ = fields(record, kinds, folder / "study.json", where="the file", **words)
    fields(teachers, dict.fromkeys(teachers, dict), folder / "study.json", where="`teachers`", **words)
    paths = [folder / "cells" / f"{cell}.json" for cell in names]
    cells = {path: read_json(path, **words) for path in paths if path.is_file()}
    for path, cell in cells.items():
        fields(cell, {"status": str, "axes": dict}, path, where="the cell", **words)
    headline = headline_of(record)
    cells = [with_headline(cell, headline) for cell in cells.values()]
    record = record | {"teachers": {name: with_headline(teacher, headline) for name, teacher in teachers.items()}}
    done = [cell for cell in cells if cell["status"] == "done"]
    if not done:
        raise ValueError(
            f"The study {str(folder / 'study.json')!r} has no cell that is done ({len(cells)} of {len(paths)} have "
            "ended, all with an error). A report needs one at least. Run `python recipes/study.py` again: it makes "
            "what is missing."
        )
    failed = [cell for cell in cells if cell["status"] == "failed"]
    study = _graded(record, done, failed, len(paths) - len(cells))
    if leave_out_blind or record["config"].get("leave_out_blind"):
        study.record, study.runs, study.left_out = without_blind(study.record, study.runs)
    study.cells = merged(study.runs, key=lambda cell: (condition(cell), cell["axes"]["seed"]))
    study.record = with_towers(study.record, study.reading, study.cells[0]["axes"].get("language_model"))
    return study


def _graded(record: dict[str, Any], runs: list[dict], failed: list[dict], missing: int) -> Study:
    """Return the study whose VQA numbers are those of its graded types of question."""
    ungraded, towers = record["config"].get("ungraded") or {}, record.get("towers") or []
    counts = type_counts([*runs, *towers])
    known = {kind for cell in runs for kind in question_types(cell)}
    if unknown := sorted(set(ungraded) - known):
        raise ValueError(
            f"`ungraded` names {unknown}, and no question of this study has such a type. It must name types of its "
            f"questions: {sorted(known)}. Correct it in the study's YAML."
        )
    references = {
        name: graded({"vqa": metrics}, ungraded, counts)["vqa"]
        for name, metrics in (record.get("references") or {}).items()
    }
    teachers = {name: graded(teacher, ungraded, counts) for name, teacher in record["teachers"].items()}
    towers = [graded(tower, ungraded, counts) for tower in towers]
    record = record | {"teachers": teachers, "references": references, "towers": towers}
    runs = [graded(cell, ungraded, counts) for cell in runs]
    return Study(record, runs, failed, missing, runs)


def condition(cell: dict, without: str | None = None) -> tuple:
    """Return the values of all axes but the seed and the axis `without`."""
    return tuple(cell["axes"].get(axis) for axis in AXES if axis != without)


def student(cell: dict) -> tuple:
    """Return the values of the axes that a student's own training depends on, but the seed."""
    return tuple(cell["axes"].get(axis) for axis in AXES if axis not in ("language_model", "reading"))


def student_alone(cells: Iterable[dict], *, longest: bool) -> list[dict]:
    """Return the cells of the first student without a teacher, with its first objective, trained longest or least."""
    found = [cell for cell in cells if cell["axes"]["teacher"] is None]
    same = ("student", "objective", "data", "language_model", "reading")
    alike = [cell for cell in found if all(cell["axes"].get(axis) == found[0]["axes"].get(axis) for axis in same)]
    by_length = sorted(alike, key=lambda cell: cell["steps"])
    return [cell for cell in alike if condition(cell) == condition(by_length[-1 if longest else 0])]


def scores(cells: Iterable[dict], metric: Metric) -> dict[int, float]:
    """Return seed -> score of the cells of one condition that have the metric."""
    found = {cell["axes"]["seed"]: metric.of(cell) for cell in cells}
    return {seed: value for seed, value in sorted(found.items()) if value is not None}
