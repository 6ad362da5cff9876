"""Learning curves of a language model over towers: what tokens hold, and how soon they are read."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import mean
from typing import Any

import numpy as np

from ..cells.cells import Study, condition, student_alone
from ..cells.metrics import VQA, Metric
from ..cells.towers import ladder_of_teachers, towers_of
from .meter import ALONE, UNTRAINED

MOST_OBJECTIVES = 3


@dataclass(frozen=True)
class Line:
    """Tower with a learning curve."""

    label: str = field(metadata={"help": "Name for readers."})
    kind: str = field(metadata={"help": "`reference`, `teacher` or `student`."})
    records: list[dict[str, Any]] = field(metadata={"help": "Its measurements, such as those of several seeds."})

    def values(self, metric: Metric) -> np.ndarray | None:
        """Return the mean score at each step, in per cent if it is a share."""
        found = [values for record in self.records if (values := (record.get("curve") or {}).get(metric.key))]
        return np.mean(found, axis=0) * (100 if metric.percent else 1) if found else None

    def mean(self, metric: Metric) -> float | None:
        """Return the mean of a number of the tower."""
        found = [value for record in self.records if (value := metric.of(record)) is not None]
        return mean(found) if found else None


def lines(study: Study) -> list[Line]:
    """Return the towers with a curve: untrained, alone, the teachers, and objectives of the strongest teacher."""
    # The length of training with the strongest teacher and most of its objectives; the longer length of two such ones.
    both = [student_alone(study.read_first, longest=longest) for longest in (True, False)]
    alone = max(both, key=lambda cells: _worth_showing(study, _taught(study, cells)))
    ladder = [name for names in ladder_of_teachers(study.record).values() for name in names]
    teachers = [*ladder, *(name for name in study.record["teachers"] if name not in ladder)]
    found = [Line(UNTRAINED, "reference", towers_of(study.record, "reference", UNTRAINED, study.reading))]
    found.append(Line(ALONE, "student", alone))
    found += [Line(f"teacher {name}", "teacher", [study.record["teachers"][name]]) for name in teachers]
    return [line for line in [*found, *_taught(study, alone)[:MOST_OBJECTIVES]] if line.values(VQA) is not None]


def _worth_showing(study: Study, taught: list[Line]) -> tuple[float, int]:
    """Return the strength of the teacher of these students, and how many objectives it has."""
    strength = study.strength(taught[0].records[0]["axes"]["teacher"]) if taught else -np.inf
    return strength, len(taught)


def _taught(study: Study, alone: list[dict]) -> list[Line]:
    """Return the students of the strongest teacher that are trained as long as those alone, by objective."""
    groups: dict[tuple, list[dict]] = {}
    for cell in study.read_first:
        if cell["axes"]["teacher"] is not None:
            groups.setdefault(condition(cell), []).append(cell)
    same = ("student", "duration", "data", "language_model")
    alike = [
        cells
        for cells in groups.values()
        if not alone or all(cells[0]["axes"][axis] == alone[0]["axes"][axis] for axis in same)
    ]
    strongest = max((cells[0]["axes"]["teacher"] for cells in alike), key=study.strength, default=None)
    named = [cells for cells in alike if cells[0]["axes"]["teacher"] == strongest]
    return [Line("{objective} from {teacher}".format(**cells[0]["axes"]), "student", cells) for cells in named]
