"""The scores of each image, as the stages of a choice leave them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...recipe_io.results import load_results
from .pilots import Pilots

TASK = "held_out"
# The task of a teacher or student that ranks it is the first that was measured.
OWN_METRICS = ("question_probe", "linear_probe", "retrieval")
PILOT_METRICS = ("question_probe", "zero_shot", "retrieval")
# Metrics of a teacher that need no training, in the results of the task `representation`.
TRAINING_FREE = ("gromov_wasserstein",)
TITLES = {
    "question_probe": "question probe",
    "linear_probe": "linear probe",
    "zero_shot": "zero-shot",
    "retrieval": "retrieval",
    "gromov_wasserstein": "Gromov–Wasserstein",
}


@dataclass(frozen=True)
class Scores:
    """Scores of one teacher and of its students."""

    name: str = field(metadata={"help": "Name of the teacher, or `alone`."})
    pilots: dict[str, np.ndarray] = field(
        metadata={"help": "Metric to the scores of the students, `(seeds, images)`, each between 0 and 1."}
    )
    own: dict[str, np.ndarray] = field(
        default_factory=dict, metadata={"help": "Metric to the scores of the teacher itself, `(1, images)`."}
    )
    training_free: dict[str, float] = field(
        default_factory=dict, metadata={"help": "Metric of the teacher that no training needs, to its value."}
    )
    seconds: float | None = field(
        default=None, metadata={"help": "Mean time of a pilot's training; `None` if it is not known."}
    )


def read_scores(pilots: Pilots, root: Path) -> Scores:
    """Return the scores of a teacher and its students, whose stages have ended, from the folder `root`."""
    of_students = load_results(root / pilots.scores.output)
    students = [_record(of_students, str(root / stage.output)) for stage in pilots.students.values()]
    metrics = [metric for metric in TITLES if all(metric in student["per_image"] for student in students)]
    times = [stage.record(root)["seconds"] for stage in pilots.students.values()]
    found = {metric: np.array([student["per_image"][metric] for student in students]) for metric in metrics}
    own, training_free = {}, {}
    if pilots.own is not None:
        of_teacher = load_results(root / pilots.own.output)
        scored = next(record for record in of_teacher if record["task"] == TASK)
        own = {metric: np.array([scores]) for metric, scores in scored["per_image"].items()}
        measured = {metric: value for record in of_teacher for metric, value in record["metrics"].items()}
        training_free = {metric: measured[metric] for metric in TRAINING_FREE if metric in measured}
    return Scores(pilots.teacher, found, own, training_free, float(np.mean(times)))


def _record(records: list[dict[str, Any]], model: str) -> dict[str, Any]:
    return next(record for record in records if record["config"]["model_name_or_path"] == model)
