"""The cells of a study, made of its blocks."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from itertools import product
from typing import Any

from .arguments import StudyArguments
from .objectives import needs_teacher
from .readings import DEFAULT, check_readings, readings_of

# Axis to the field of `StudyArguments` that names its values.
AXES = {
    "teacher": "teachers",
    "student": "students",
    "objective": "objectives",
    "duration": "durations",
    "data": "data",
    "language_model": "language_models",
    "reading": "readings",
}
# Axis to the field that lists its values.
SEEDS = {"seed": "seeds", "vlm_seed": "vlm_seeds"}
FIRST = "first"  # Number of the study's seeds. A second run with other seeds keeps its blocks.


@dataclass(frozen=True)
class Reader:
    """The vision-language model that a tower gets. All fields are `None` in a study without."""

    language_model: str | None = field(metadata={"help": "Its name in the study."})
    reading: str | None = field(metadata={"help": "Its name in the study, `default` if the study names none."})
    vlm_seed: int | None = field(
        metadata={"help": "Seed of the training; `None` for that in the YAML of the training."}
    )


@dataclass(frozen=True)
class Cell:
    """One student: how it is trained, and the language model that reads it."""

    teacher: str | None = field(metadata={"help": "Its name in the study; `None` for a student alone."})
    student: str
    objective: str
    duration: str
    data: str
    seed: int
    language_model: str | None = field(
        metadata={"help": "Its name; `None` in a study without a vision-language model."}
    )
    reading: str | None = field(metadata={"help": "Its name; `default` in a study that names none."})
    vlm_seed: int | None = field(metadata={"help": "Seed of the vision-language model's training."})

    @property
    def axes(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def reader(self) -> Reader:
        return Reader(self.language_model, self.reading, self.vlm_seed)

    def __str__(self) -> str:
        return " ".join([*self.words, f"seed {self.seed}", *([f"VLM seed {self.vlm_seed}"] if self.is_repeat else [])])

    @property
    def words(self) -> list[str]:
        """The values of its axes but the seeds, as they stand in names."""
        words = [self.teacher or "alone", self.student, self.objective, self.duration, self.data, self.language_model]
        return [word for word in [*words, None if self.reading == DEFAULT else self.reading] if word is not None]

    @property
    def is_repeat(self) -> bool:
        """True if the vision-language model has another seed than the student. A name tells it then."""
        return self.vlm_seed not in (None, self.seed)


def cells_of(study: StudyArguments) -> list[Cell]:
    """
    Return all cells, each once, by seed and then in the order of the blocks.

    All cells of one seed come first: an early look then compares whole columns.

    Raises:
        ValueError: for an unknown axis or value, or an objective that does not go with the teacher.
    """
    _check_names(study)
    found: dict[Cell, None] = {}
    for block in study.cells:
        for cell in _combinations(study, block):
            found.setdefault(cell)
    cells = list(found)
    if not cells:
        empty = next((name for name in ("cells", "seeds") if not getattr(study, name)), "cells")
        raise ValueError(
            f"`{empty}` is empty, so there is nothing to run. It must hold one entry at least. "
            "Write for example `cells: [{}]` and `seeds: [0]`."
        )
    for cell in cells:
        _check_objective(study, cell)
    seeds = list(dict.fromkeys(cell.seed for cell in cells))
    return sorted(cells, key=lambda cell: seeds.index(cell.seed))


def repeats_vlm(study: StudyArguments) -> bool:
    """Return True if the study names seeds of the vision-language model; else each student has its own seed there."""
    return bool(study.vlm_seeds) or any(_named_seeds(study, block) != [None] for block in study.cells)


def _combinations(study: StudyArguments, block: dict[str, Any]) -> list[Cell]:
    if not isinstance(block, dict):
        raise ValueError(
            f"`cells`: {block!r} is no block. It must map axes to one value or several. Write for example "
            "`- {teacher: L, objective: clip_kd}`."
        )
    for axis in block:
        if axis not in (*AXES, *SEEDS):
            close = get_close_matches(axis, [*AXES, *SEEDS], n=1)
            hint = f"Did you mean `{close[0]}`?" if close else "Delete it."
            raise ValueError(
                f"`cells`: {axis!r} in {block} is no axis. The axes are {', '.join(AXES)} and "
                f"{' and '.join(SEEDS)}. {hint}"
            )
    known = {axis: list(getattr(study, field)) for axis, field in AXES.items()} | {"reading": list(readings_of(study))}
    values = {axis: _listed(block.get(axis, next(iter(names), None))) for axis, names in known.items()}
    for axis, names in known.items():
        for value in values[axis]:
            if value not in names and not (value is None and (axis == "teacher" or not names)):
                raise ValueError(
                    f"`cells`: the {axis} {value!r} in {block} is not defined. `{AXES[axis]}` has {names}. "
                    "Correct it, or add it there."
                )
    values |= {"seed": _seeds(study, block), "vlm_seed": _named_seeds(study, block)}
    for axis in SEEDS:
        for seed in values[axis]:
            if (axis, seed) != ("vlm_seed", None) and (
                not isinstance(seed, int) or isinstance(seed, bool) or seed < 0
            ):
                raise ValueError(
                    f"`cells`: {seed!r} in {block} is no seed. Seeds are integers of at least 0. "
                    f"Write for example `{axis}: [0, 1, 2]`."
                )
    if not study.vlm and values["vlm_seed"] != [None]:
        raise ValueError(
            f"`cells`: `vlm_seed` in {block}, and `vlm` has no stage. It is the seed of a vision-language model. "
            "Write the stages of `vlm`, or leave it out."
        )
    return [_cell(**dict(zip(values, combination, strict=True))) for combination in product(*values.values())]


def _cell(seed: int, vlm_seed: int | None, language_model: str | None, **axes: Any) -> Cell:
    """Return a cell. Without a seed of its own the vision-language model has that of the student."""
    if vlm_seed is None and language_model is not None:
        vlm_seed = seed
    return Cell(**axes, seed=seed, language_model=language_model, vlm_seed=vlm_seed)


def _seeds(study: StudyArguments, block: dict[str, Any]) -> list:
    """Return the seeds of a block's students: those it lists, the first of the study's (`{first: 3}`), or all."""
    value = block.get("seed", study.seeds)
    first = value.get(FIRST) if isinstance(value, dict) and len(value) == 1 else None
    return study.seeds[:first] if isinstance(first, int) and first > 0 else _listed(value)


def _named_seeds(study: StudyArguments, block: dict[str, Any]) -> list:
    """Return the seeds of a block's vision-language models; `None` is the seed of the cell."""
    return _listed(block.get("vlm_seed", study.vlm_seeds or None))


def _listed(value: Any) -> list:
    return value if isinstance(value, list) else [value]


def _check_names(study: StudyArguments) -> None:
    """Check names: they become parts of file names and of columns."""
    for field_name in (*AXES.values(), "references"):
        optional = field_name in ("references", "readings") or (field_name == "language_models" and not study.vlm)
        if not getattr(study, field_name) and not optional:
            raise ValueError(
                f"`{field_name}` is empty, and every cell needs one of them. It maps names to what they mean. Add one."
            )
        for name in getattr(study, field_name):
            if not isinstance(name, str) or not re.fullmatch(r"[\w.+-]+", name):
                raise ValueError(
                    f"`{field_name}`: {name!r} cannot be a name. Names are letters, digits and any of `_.+-`. "
                    "Rename it, in quotes if it is a number: `'2': ...`."
                )
    check_readings(study)
    named = {"reference_teacher": "teachers", "crops_from": "teachers", "base_objective": "objectives"}
    for name, field_name in named.items():
        known = getattr(study, field_name)
        if getattr(study, name) not in (None, *known):
            raise ValueError(
                f"`{name}={getattr(study, name)}` is not defined. `{field_name}` has {list(known)}. "
                "Correct it, or leave it out."
            )


def _check_objective(study: StudyArguments, cell: Cell) -> None:
    losses = study.objectives[cell.objective]
    asks_teacher = needs_teacher(losses)
    if asks_teacher and cell.teacher is None:
        raise ValueError(
            f"`cells`: the objective {cell.objective!r} ({losses}) with the teacher null. It needs a teacher. "
            "Name one, or an objective such as `alone: {clip: 1.0}`."
        )
    if not asks_teacher and cell.teacher is not None:
        raise ValueError(
            f"`cells`: the objective {cell.objective!r} ({losses}) with the teacher {cell.teacher!r}, "
            "whom it does not ask. "
            "A student alone has no teacher. Write `teacher: null`."
        )
