"""The stages that make and measure each cell. Equal stages are one stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ...recipe_io.foreign import read_yaml
from .arguments import StudyArguments
from .caches import cache_losses
from .grid import Cell, cells_of
from .objectives import reads_generated_captions
from .stages import Stage, with_needed

CAPTIONS = "synthetic_text_column"
SHARED = ("language_model", "teacher", "cache")  # kinds of stages that many others need
Model = str | PurePosixPath  # a name that a recipe takes, or a folder that a stage makes


@dataclass(frozen=True)
class Measured:
    """The stages that make and measure one tower; each may serve other towers' cells, too."""

    evaluate: Stage = field(metadata={"help": "Zero-shot, retrieval and representation."})
    vqa: Stage | None = field(
        metadata={"help": "The one that leaves the VQA results; `None` in a study without a vision-language model."}
    )
    cost: Stage
    training: Stage | None = field(metadata={"help": "`None` for what was trained by others."})

    @property
    def stages(self) -> list[Stage]:
        return [stage for stage in (self.training, self.evaluate, self.vqa, self.cost) if stage is not None]


class Plan:
    """
    The stages of a study.

    Args:
        study ([`StudyArguments`]): The study's YAML.
        configs (`Path`): Folder in which the names of YAMLs start.

    Attributes:
        cells (`dict[Cell, Measured]`): Each student.
        teachers (`dict[tuple[str, str | None], Measured]`): Each teacher by itself.
            The key is its name and the language model's.
        references (`dict[str, Stage]`): The VQA of the other towers, by name, with the first language model.

    Raises:
        ValueError: If the grid or a YAML cannot be run.
    """

    def __init__(self, study: StudyArguments, configs: Path):
        self.study, self.configs = study, configs
        self._grid = cells_of(study)
        self.cells: dict[Cell, Measured] = {cell: self._student(cell) for cell in self._grid}
        named = dict.fromkeys((cell.teacher, cell.language_model) for cell in self.cells if cell.teacher is not None)
        self.teachers: dict[tuple[str, str | None], Measured] = {pair: self._teacher(*pair) for pair in named}
        first = next(iter(self.cells)).language_model
        self.references = {name: self._vqa(tower, first, ()) for name, tower in study.references.items()}

    @property
    def stages(self) -> list[Stage]:
        """All stages: first those that others wait for, the longest in front, then teachers, then cell after cell."""
        teachers = [stage for measured in self.teachers.values() for stage in measured.stages]
        cells = [stage for measured in self.cells.values() for stage in measured.stages]
        awaited = {need.id: need for stage in [*cells, *teachers] for need in stage.needs if need.kind in SHARED}
        first = sorted(awaited.values(), key=lambda stage: -(stage.seconds or 0))
        costs = [stage for stage in [*cells, *teachers] if stage.kind == "cost"]
        return with_needed([*first, *costs, *teachers, *cells, *self.references.values()])

    def awaited_by(self, cell: Cell) -> list[Stage]:
        """Return the stages that must end before the cell's file is written: its own and its teacher's."""
        teacher = self.teachers.get((cell.teacher, cell.language_model))
        return [*self.cells[cell].stages, *(teacher.stages if teacher is not None else [])]

    # ---- Models ----

    def _student(self, cell: Cell) -> Measured:
        study = self.study
        preset = study.students[cell.student]
        arguments, seconds = self._recipe("distill", study.distill, "student")
        arguments |= self._data(cell)
        arguments |= {"model_name_or_path": preset, "losses": study.objectives[cell.objective], "seed": cell.seed}
        arguments |= _prolonged(arguments, study.durations[cell.duration], cell.duration)
        needs: tuple[Stage, ...] = ()
        placed: dict[str, Any] = {}
        if cell.teacher is not None:
            teacher, needs = self._teacher_model(cell.teacher)
            arguments["teacher_model_name_or_path"] = teacher
            if study.cache is not None:
                own, shared = self._caches(cell, teacher, needs)
                # Another objective may ask for more. The features of this one stay the same, and so does its id.
                arguments["teacher_cache"], placed["teacher_cache"] = own.output, shared.output
                needs = (*needs, shared)
        seconds = None if seconds is None else seconds * study.durations[cell.duration]
        training = Stage("student", arguments | {"evaluation": None}, needs, seconds, placed)
        evaluate = self._evaluate(training.output, (training,), cell.teacher or study.reference_teacher)
        vqa = self._vqa(training.output, cell.language_model, (training,), seed=cell.seed)
        return Measured(evaluate, vqa, self._cost(preset), training)

    def _data(self, cell: Cell) -> dict[str, Any]:
        """Return the arguments of the data, without generated captions that no loss reads: each would be embedded."""
        data = self.study.data[cell.data]
        if reads_generated_captions(self.study.objectives[cell.objective]):
            return data
        data = {name: value for name, value in data.items() if name != CAPTIONS}
        if "datasets" in data:
            sources = [
                {name: value for name, value in source.items() if name != CAPTIONS} for source in data["datasets"]
            ]
            data |= {"datasets": sources}
        return data

    def _teacher(self, name: str, language_model: str | None) -> Measured:
        model, made_by = self._teacher_model(name)
        # Its size is that of what it was before its training.
        size = made_by[0].arguments["model_name_or_path"] if made_by else model
        evaluate, vqa = self._evaluate(model, made_by, None), self._vqa(model, language_model, made_by)
        return Measured(evaluate, vqa, self._cost(size), next(iter(made_by), None))

    def _teacher_model(self, name: str) -> tuple[Model, tuple[Stage, ...]]:
        entry = self.study.teachers[name]
        if not isinstance(entry, dict) or ("model" in entry) == ("recipe" in entry):
            raise ValueError(
                f"`teachers`, {name!r}: {entry!r} does not say what it is. A teacher has a `model`, its folder or "
                "name, or a `recipe`, the YAML that trains it. "
                f"Write for example `{name}: {{model: openai/clip-vit-base-patch16}}`."
            )
        if "model" in entry:
            return entry["model"], ()
        arguments, seconds = self._recipe("teachers", entry, "teacher")
        stage = Stage("teacher", arguments | {"evaluation": None}, (), seconds)
        return stage.output, (stage,)

    def _caches(self, cell: Cell, teacher: Model, needs: tuple[Stage, ...]) -> tuple[Stage, Stage]:
        """Return the cache that the cell would need alone, and the shared cache of its teacher and data."""
        arguments, seconds = self._recipe("cache", self.study.cache, "cache")
        data = self._data(cell)
        arguments |= data | {"teacher_model_name_or_path": teacher}
        alike = {
            other.objective: self.study.objectives[other.objective]
            for other in self._grid
            if other.teacher == cell.teacher and self._data(other) == data
        }
        own = cache_losses({cell.objective: alike[cell.objective]})
        return tuple(
            Stage("cache", arguments | {"losses": losses[cell.objective]}, needs, seconds)
            for losses in (own, cache_losses(alike))
        )

    def _language_model(self, name: str) -> tuple[Model, tuple[Stage, ...]]:
        entry = self.study.language_models[name]
        if isinstance(entry, str):
            return entry, ()
        arguments, seconds = self._recipe("language_models", entry, "language_model")
        stage = Stage("language_model", arguments, (), seconds)
        return stage.output, (stage,)

    # ---- Measuring ----

    def _evaluate(self, model: Model, needs: tuple[Stage, ...], teacher: str | None) -> Stage:
        arguments, seconds = self._recipe("evaluate", self.study.evaluate, "evaluate")
        blocks = {name: dict(block) for name, block in (self.study.representation or {}).items()}
        if teacher is not None and blocks:
            compared, made_by = self._teacher_model(teacher)
            needs = (*needs, *(stage for stage in made_by if stage not in needs))
            blocks = {name: block | {"teacher": compared} for name, block in blocks.items()}
        arguments["evaluation"] = (arguments.get("evaluation") or {}) | blocks
        return Stage("evaluate", arguments | {"model_name_or_path": model}, needs, seconds)

    def _vqa(
        self, tower: Model | None, language_model: str | None, needs: tuple[Stage, ...], seed: int | None = None
    ) -> Stage | None:
        """Return the stage that answers questions, or `None` without a vision-language model."""
        if language_model is None:
            return None
        model, made_by = self._language_model(language_model)
        start: dict[str, Any] = {"vision_tower": tower, "language_model": model}
        needs = (*needs, *made_by)
        for spec in self.study.vlm:
            arguments, seconds = self._recipe("vlm", spec, "vlm")
            arguments = {
                name: value
                for name, value in arguments.items()
                if name not in ("vision_tower", "language_model", "beside")
            }
            arguments |= start | ({} if seed is None else {"seed": seed})
            stage = Stage("vlm", arguments, needs, seconds)
            start, needs = {"model_name_or_path": stage.output}, (stage,)
        if self.study.vqa is None:
            return stage
        arguments, seconds = self._recipe("vqa", self.study.vqa, "vqa")
        return Stage("vqa", arguments | start, needs, seconds)

    def _cost(self, model: Model) -> Stage:
        return Stage("cost", {"model_name_or_path": model}, (), self.study.estimates.get("cost"))

    # ---- YAMLs ----

    def _recipe(self, argument: str, spec: str | dict[str, Any], kind: str) -> tuple[dict[str, Any], float | None]:
        """Return the arguments of a YAML with the values that replace them, and the expected seconds."""
        values = {"recipe": spec} if isinstance(spec, str) else dict(spec)
        name, seconds = values.pop("recipe", None), values.pop("seconds", self.study.estimates.get(kind))
        path = next((path for path in (Path(str(name)), self.configs / str(name)) if path.is_file()), None)
        if name is None or path is None:
            there = sorted(str(file.relative_to(self.configs)) for file in self.configs.glob("*/*.yaml"))
            raise ValueError(
                f"`{argument}`: {spec!r} names no YAML. It must be a path, or a name in {self.configs}, such as "
                f"{', '.join(there)}; with arguments that differ, a mapping: `{{recipe: NAME, max_steps: 100}}`. "
                "Correct it."
            )
        loaded = read_yaml(path, allowed="It must hold the arguments of a recipe.", fix="Correct it.")
        # The study decides on the folder.
        return {key: value for key, value in (loaded | values).items() if key != "output_dir"}, seconds


def _prolonged(arguments: dict[str, Any], factor: Any, name: str) -> dict[str, Any]:
    """Return the length of a training times `factor`, in steps or epochs as its YAML has it."""
    if not isinstance(factor, int | float) or isinstance(factor, bool) or not factor > 0:
        raise ValueError(
            f"`durations`, {name!r}: {factor!r} is no factor. It must be a number above 0. "
            f"Write for example `{name}: 2`."
        )
    lengths = {key: arguments[key] for key in ("max_steps", "num_train_epochs") if arguments.get(key, -1) > 0} or {
        "num_train_epochs": 3
    }
    return {key: round(factor * value) if key == "max_steps" else factor * value for key, value in lengths.items()}
