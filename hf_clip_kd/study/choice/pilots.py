"""The stages of a choice: a pilot of the student for each teacher and seed, and their scores."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from ...recipe_io.results import write_whole
from ..running.arguments import StudyArguments
from ..running.launch import launch_of
from ..running.models import Model
from ..running.plan import Plan
from ..running.stages import Stage, with_needed

ALONE = "alone"


@dataclass(frozen=True)
class Pilots:
    """The students of one teacher, and what is asked of them."""

    teacher: str = field(metadata={"help": "Name of the teacher, or `alone`."})
    own: Stage | None = field(
        metadata={"help": "The stage that scores the teacher itself; `None` for an ensemble and for `alone`."}
    )
    students: dict[int, Stage] = field(metadata={"help": "Seed to the stage that trains the student."})
    scores: Stage = field(metadata={"help": "The stage that scores the students."})

    @property
    def stages(self) -> list[Stage]:
        return with_needed([self.scores, *([] if self.own is None else [self.own])])


def plan_pilots(
    root: Path,
    configs: Path,
    *,
    teachers: dict[str, dict[str, Any]],
    student: str,
    losses: Any,
    pilot: dict[str, Any],
    cache: dict[str, Any],
    evaluation: dict[str, Any],
    own_evaluation: dict[str, Any],
    images: PurePosixPath,
    seeds: list[int],
    estimates: dict[str, float],
    options: dict[str, Any],
    accelerate_config: str | None = None,
) -> list[Pilots]:
    """
    Make the stages of all pilots with the plan of a study.

    Args:
        root (`Path`): Output folder. It gets the YAMLs of the stages that do not differ between teachers.
        configs (`Path`): Folder in which the names of teachers' YAMLs start.
        teachers (`dict`): Name to `model` or `recipe`, as in [`StudyArguments`].
        student (`str`): `model_name_or_path` of the student.
        losses: `losses` of the students that have a teacher.
        pilot, cache (`dict`): Arguments of `distill.py` and `cache_teacher.py`.
        evaluation (`dict`): Argument of `evaluate.py`; a `PurePosixPath` in it is relative to `root`.
        own_evaluation (`dict`): More of it, for the teachers themselves.
        images (`PurePosixPath`): Data set of the students' images, relative to `root`.
        seeds (`list[int]`): Seeds of the students.
        estimates (`dict[str, float]`): Kind of stage to its seconds.
        options (`dict`): Other arguments of `evaluate.py`.
        accelerate_config (`str`, *optional*): File for `accelerate launch`.

    Returns:
        `list[Pilots]`: The students alone, then those of each teacher.

    Raises:
        ValueError: See [`Plan`].
    """
    recipes = {name: str(_written(root, name, values)) for name, values in (("pilot", pilot), ("cache", cache))}
    study = StudyArguments(
        name="choose_teacher",
        output_dir=str(root),
        teachers=teachers,
        students={"student": student},
        objectives={"pilot": losses, ALONE: {"clip": 1.0}},
        durations={"x1": 1},
        data={"own": {"dataset_name": images}},
        seeds=seeds,
        cells=[{"teacher": None, "objective": ALONE}, {"teacher": list(teachers), "objective": "pilot"}],
        distill=recipes["pilot"],
        cache=recipes["cache"],
        # The plan's own stages of this kind score one tower each. Here one process scores all students of a teacher.
        evaluate=str(_written(root, "evaluate", {"evaluation": {}})),
        estimates=estimates,
        accelerate_config=accelerate_config,
    )
    stage = partial(Stage, launch=launch_of(accelerate_config))
    plan = Plan(study, configs)
    found = []
    for name in (None, *teachers):
        students = {cell.seed: measured.training for cell, measured in plan.cells.items() if cell.teacher == name}
        own = None if name is None else _own(teachers[name], next(iter(students.values())))
        towers = [stage.output for stage in students.values()]
        arguments = {"model_name_or_path": towers, "evaluation": evaluation, **options}
        scores = stage("evaluate", arguments, tuple(students.values()), estimates.get("evaluate"))
        if own is not None:
            model, made_by = own
            arguments = arguments | {"model_name_or_path": model, "evaluation": evaluation | own_evaluation}
            own = stage("evaluate", arguments, made_by, estimates.get("evaluate"))
        found.append(Pilots(name or ALONE, own, students, scores))
    return found


def _own(teacher: dict[str, Any], training: Stage) -> tuple[Model, tuple[Stage, ...]] | None:
    """Return the teacher of a student as `evaluate.py` takes it, and what trains it; `None` for an ensemble."""
    made_by = tuple(need for need in training.needs if need.kind == "teacher")
    if made_by:
        return made_by[0].output, made_by
    model = teacher["model"]["name"] if isinstance(teacher["model"], dict) else teacher["model"]
    return (model, ()) if isinstance(model, str) else None


def _written(root: Path, name: str, values: dict[str, Any]) -> Path:
    path = root / "recipes" / f"{name}.yaml"
    write_whole(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    return path
