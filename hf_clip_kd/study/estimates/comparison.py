"""Comparison of the conditions of a sweep with their reference, metric by metric."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from statistics import mean

import numpy as np

from ..cells.cells import Study, Sweep, scores
from ..cells.metrics import CKA, Metric
from .outcomes import estimate
from .power import LEVEL, detectable
from .statistics import Estimate, holm

NO_TEACHER = "no teacher"


@dataclass(frozen=True)
class Score:
    """One condition's score in one metric."""

    values: list[float] = field(metadata={"help": "A score for each seed, in per cent if it is a share."})
    difference: Estimate | None = field(
        metadata={"help": "Difference to the reference; `None` for the reference, or if it has no score."}
    )
    adjusted: float = field(metadata={"help": "The p-value after Holm's correction for the conditions of the sweep."})
    metric: Metric = field(metadata={"help": "The metric."})
    tests: int = field(metadata={"help": "Number of conditions that Holm's correction is for."})

    @property
    def mark(self) -> str:
        """`▲` if clearly better than the reference, `▼` if clearly worse, nothing for a single seed."""
        if self.difference is None or self.difference.seeds < 2 or not self.adjusted < LEVEL:
            return ""
        return "▲" if self.metric.better(self.difference.value) > 0 else "▼"

    @property
    def detectable(self) -> float:
        """Smallest difference that the strictest step of Holm's correction shows with power 0.8; nan for one seed."""
        if self.difference is None or self.difference.seeds < 2:
            return np.nan
        return detectable(self.difference.error, self.difference.freedom, level=LEVEL / self.tests)

    def show(self) -> str:
        """Return the score as text, `36.4 ± 0.3 ▲`; one seed has no `±`."""
        return f"{self.metric.show_mean(self.values)} {self.mark}".strip()


@dataclass(frozen=True)
class Comparison:
    """All scores of a sweep."""

    sweep: Sweep = field(metadata={"help": "The compared cells."})
    reference: str = field(metadata={"help": "The row that the others are compared with."})
    rows: dict[str, dict[Metric, Score]] = field(metadata={"help": "Name of a condition to its scores."})

    def best(self, metric: Metric) -> str | None:
        """Return the condition with the best mean, except the reference."""
        scored = {
            name: metric.better(mean(row[metric].values))
            for name, row in self.rows.items()
            if name != self.reference and metric in row
        }
        return max(scored, key=scored.get, default=None)


@functools.cache
def compare(study: Study, axis: str, metrics: tuple[Metric, ...] | None = None) -> Comparison | None:
    """
    Compare the conditions of an axis' main sweep; return `None` if the axis does not vary.

    The reference of teachers and objectives is the same student without a teacher, if there is one. Otherwise it is
    the first condition of the sweep.

    Differences are paired by seed, and by question for VQA accuracy and bits, see [`contrast`]. Holm's method corrects
    the p-values within a metric.
    """
    if (found := compared(study, axis)) is None:
        return None
    sweep, reference, conditions = found
    rows: dict[str, dict[Metric, Score]] = {name: {} for name in conditions}
    for metric in study.columns if metrics is None else metrics:
        for name, score in scored(conditions, reference, metric).items():
            rows[name][metric] = score
    return Comparison(sweep, reference, rows)


def scored(conditions: dict[str, list[dict]], reference: str, metric: Metric) -> dict[str, Score]:
    """
    Return the scores of the conditions that have the metric, each beside the reference.

    Args:
        conditions (`dict[str, list[dict]]`): Name to cells, those of the reference among them.
        reference (`str`): Name of the condition that the others are compared with.
        metric ([`Metric`]): The metric.
    """
    found = {name: list(scores(cells, metric).values()) for name, cells in conditions.items()}
    found = {name: values for name, values in found.items() if values}
    # CKA of a student without a teacher is its CKA with some other teacher.
    comparable = reference in found and not (reference == NO_TEACHER and metric in CKA.values())
    others = [name for name in found if name != reference] if comparable else []
    differences = {name: estimate([conditions[reference], conditions[name]], metric, [-1, 1]) for name in others}
    tested = [name for name, gap in differences.items() if gap is not None and not np.isnan(gap.p_value)]
    adjusted = dict(zip(tested, holm([differences[name].p_value for name in tested]), strict=True))
    return {
        name: Score(values, differences.get(name), float(adjusted.get(name, np.nan)), metric, len(tested))
        for name, values in found.items()
    }


def compared(study: Study, axis: str) -> tuple[Sweep, str, dict[str, list[dict]]] | None:
    """Return an axis' main sweep, the name of its reference, and the cells of all conditions, the reference first."""
    if (sweep := study.main_sweep(axis)) is None:
        return None
    conditions = {str(value): cells for value, cells in sweep.cells.items()}
    alone = study.without_teacher(sweep.fixed) if sweep.axis in ("teacher", "objective") else []
    conditions = {NO_TEACHER: alone} | conditions if alone else conditions
    return sweep, next(iter(conditions)), conditions
