"""Grading of the types of question: what stands at chance, at the ceiling, or between."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

from scipy import stats

from ..cells.cells import Study, condition, student_alone
from ..cells.graded import type_counts
from ..cells.metrics import BY_TYPE, question_types
from ..cells.towers import ladder_of_teachers
from .meter import UNTRAINED
from .statistics import CONFIDENCE

CEILING = 98.0  # The oracle must answer so many per cent for its score to be a ceiling.
NEAR = 1.0  # Points below the oracle at which a tower has reached the ceiling.
AT_CHANCE = "the strongest teacher is at chance"
AT_CEILING = "everybody is at the ceiling"
NO_CEILING = "no ceiling"
ABOVE_ORACLE = "a tower exceeds the oracle by more than chance"
GRADED = "graded"
ALL = "all graded types"


@dataclass(frozen=True)
class Grade:
    """One type of question."""

    kind: str = field(metadata={"help": "Name of the type."})
    scores: dict[str, float] = field(metadata={"help": "Row to accuracy in per cent: blind, untrained and so on."})
    bits: dict[str, float] = field(metadata={"help": "The same rows to bits of the accepted answer, where known."})
    verdict: str = field(metadata={"help": "Sentence part that follows from the numbers."})


@functools.cache
def grades(study: Study) -> list[Grade]:
    """
    Return the grade of each type of question, and of all graded types together, with the first reading.

    The rows are `blind`, `untrained`, `alone`, `teacher` (the strongest) and `oracle`, as far as they were measured.
    Old studies do not know their number of questions by type, so all types count as equally frequent.
    """
    rows, towers = _rows(study), _trained(study)
    kinds = list(question_types(next(iter(towers.values()), {})))
    ungraded = study.record["config"].get("ungraded") or {}
    found = []
    for kind in kinds:
        scores, trained = _shares(rows, kind), list(_shares(towers, kind).values())
        judged = (
            f"left out: {ungraded[kind]}" if kind in ungraded else verdict(scores, trained, _questions(study, kind))
        )
        found.append(Grade(kind, scores, _of(rows, f"{kind}/answer_bits", 1), judged))
    if found:
        found.append(Grade(ALL, _of(rows, "accuracy", 100), _of(rows, "answer_bits", 1), ""))
    return found


def verdict(scores: dict[str, float], trained: list[float], questions: int | None) -> str:
    """
    Return what follows from the scores of one type, `no ceiling; the strongest teacher is at chance`, or `graded`.

    Args:
        scores (`dict[str, float]`): Per cent right of `blind`, `teacher` and `oracle`, as far as known.
        trained (`list[float]`): Per cent right of all trained towers.
        questions (`int`, *optional*): Number of questions of the type. Chance cannot be judged without it.
    """
    oracle, found = scores.get("oracle"), []
    if {"blind", "teacher"} <= set(scores) and not exceeds(scores["teacher"], scores["blind"], questions):
        found.append(AT_CHANCE)
    if oracle is not None:
        if oracle < CEILING:
            found.append(NO_CEILING)
        if trained and min(trained) >= oracle - NEAR:
            found.append(AT_CEILING)
        if any(exceeds(value, oracle, questions, tests=len(trained)) for value in trained):
            found.append(ABOVE_ORACLE)
    return "; ".join(found) or GRADED


def exceeds(share: float, other: float, questions: int | None, tests: int = 1) -> bool:
    """
    Return whether a share of right answers lies above another by more than chance.

    This is the two-sided test of two proportions with their common variance, on `questions` each. Bonferroni's
    correction is for the number of `tests`.

    Args:
        share, other (`float`): Per cent, in [0, 100].
    """
    if questions is None:
        return share > other
    common = (share + other) / 200
    error = 100 * (2 * common * (1 - common) / questions) ** 0.5
    return share - other > stats.norm.isf((1 - CONFIDENCE) / 2 / tests) * error


def _rows(study: Study) -> dict[str, dict[str, Any]]:
    references = study.record.get("references") or {}
    found = {name: [{"vqa": references[name]}] for name in ("blind", UNTRAINED) if references.get(name)}
    found["alone"] = student_alone(study.read_first, longest=True)
    strengths = list(ladder_of_teachers(study.record).values())
    found["teacher"] = [study.record["teachers"][name] for name in (strengths[-1] if strengths else [])]
    found["oracle"] = [{"vqa": references["oracle"]}] if references.get("oracle") else []
    return {
        name: _mean_vqa(records) for name, records in found.items() if any(record.get("vqa") for record in records)
    }


def _trained(study: Study) -> dict[Any, dict[str, Any]]:
    """Return the towers that a training made, means over seeds."""
    groups: dict[Any, list[dict]] = {}
    for cell in study.read_first:
        groups.setdefault(condition(cell), []).append(cell)
    groups |= {name: [teacher] for name, teacher in study.record["teachers"].items()}
    return {
        name: _mean_vqa(records) for name, records in groups.items() if any(record.get("vqa") for record in records)
    }


def _mean_vqa(records: Iterable[dict[str, Any]]) -> dict[str, Any]:
    blocks = [record["vqa"] for record in records if record.get("vqa")]
    shared = [key for key in blocks[0] if all(block.get(key) is not None for block in blocks)]
    return {"vqa": {key: mean(block[key] for block in blocks) for key in shared}}


def _shares(rows: dict[Any, dict[str, Any]], kind: str) -> dict[Any, float]:
    """Return the share of a type of question in per cent, by row."""
    return next(filter(None, (_of(rows, f"{kind}{ending}", 100) for ending in BY_TYPE)), {})


def _of(rows: dict[Any, dict[str, Any]], key: str, factor: float) -> dict[Any, float]:
    return {name: factor * row["vqa"][key] for name, row in rows.items() if key in row["vqa"]}


def _questions(study: Study, kind: str) -> int | None:
    """Return the number of questions of a type; of an old study, an equal part of all."""
    records = [*study.runs, *(study.record.get("towers") or [])]
    if counts := type_counts(records):
        return counts.get(kind)
    cell = next((cell for cell in study.cells if cell.get("vqa_correct")), None)
    return None if cell is None else len(cell["vqa_correct"]) // max(1, len(question_types(cell)))
