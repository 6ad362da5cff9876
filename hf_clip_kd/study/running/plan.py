"""The stages that make and measure each cell. Equal stages are one stage."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ...recipe_io.foreign import read_yaml
from .arguments import StudyArguments
from .caches import cache_losses
from .grid import Cell, Reader, cells_of, repeats_vlm
from .objectives import reads_generated_captions
from .readings import check_answers, choices, readings_of, stages_of
from .stages import FEATURES, Stage, digits, with_needed

CAPTIONS = "synthetic_text_column"
SHARED = ("language_model", "teacher", "cache")  # kinds of stages that many others need
# Arguments that the features of a tower depend on, beside the tower.
LOOKS = ("vision_feature_layer", "image_mode", "dtype")
Model = str | PurePosixPath  # a name that a recipe takes, or a folder that a stage makes


@dataclass(frozen=True)
class Measured:
    """The stages that make and measure one tower; each may serve other towers' cells, too."""

    evaluate: Stage | None = field(
        metadata={"help": "Zero-shot, retrieval and representation; `None` for a blind reference."}
    )
    readings: dict[str, Stage] = field(
        metadata={
            "help": "Name of a reading to the stage that leaves its VQA results. There are several if the best "
            "counts, and none in a study without a vision-language model."
        }
    )
    cost: Stage | None
    training: Stage | None = field(metadata={"help": "`None` for what was trained by others."})

    @property
    def vqa(self) -> Stage | None:
        """The stage that leaves the VQA results, the first of several."""
        return next(iter(self.readings.values()), None)

    @property
    def stages(self) -> list[Stage]:
        stages = (self.training, self.evaluate, *self.readings.values(), self.cost)
        return [stage for stage in stages if stage is not None]


class Plan:
    """
    The stages of a study.

    Args:
        study ([`StudyArguments`]): The study's YAML.
        configs (`Path`): Folder in which the names of YAMLs start.

    Attributes:
        cells (`dict[Cell, Measured]`): Each student.
        teachers (`dict[tuple[str, Reader], Measured]`): Each teacher by itself, with each vision-language model.
        references (`dict[tuple[str, Reader], Measured]`): The VQA of the other towers, with each, too.

    Raises:
        ValueError: If the grid or a YAML cannot be run.
    """

    def __init__(self, study: StudyArguments, configs: Path):
        self.study, self.configs = study, configs
        self._yamls: dict[Path, dict[str, Any]] = {}  # A grid names few files, each many times.
        self._grid = cells_of(study)
        self._repeats = repeats_vlm(study)
        self.cells: dict[Cell, Measured] = {cell: self._student(cell) for cell in self._grid}
        readers = dict.fromkeys(map(self._reader, self._grid))
        names = dict.fromkeys(cell.teacher for cell in self._grid if cell.teacher is not None)
        self.teachers = {(name, reader): self._teacher(name, reader) for name in names for reader in readers}
        self.references = {
            (name, reader): Measured(self._floor(tower), self._vqa(tower, reader, ()), None, None)
            for name, tower in study.references.items()
            for reader in readers
        }

    @property
    def stages(self) -> list[Stage]:
        """All stages: first those that others wait for, the longest in front, then teachers, then cell after cell."""
        measured = [*self.cells.values(), *self.teachers.values()]
        every = [stage for tower in measured for stage in tower.stages]
        awaited = {need.id: need for stage in every for need in stage.needs if need.kind in SHARED}
        first = sorted(awaited.values(), key=lambda stage: -(stage.seconds or 0))
        costs = [stage for stage in every if stage.kind == "cost"]
        # Other vision-language models of a teacher wait until a cell asks for them.
        plain = next(iter(self.cells))
        teachers = [
            stage
            for (_, reader), tower in self.teachers.items()
            if reader == self._reader(plain)
            for stage in tower.stages
        ]
        cells = [stage for cell in self.cells for stage in self.awaited_by(cell)]
        others = [stage for tower in [*self.teachers.values(), *self.references.values()] for stage in tower.stages]
        return with_needed([*first, *costs, *teachers, *cells, *others])

    def teacher_of(self, cell: Cell) -> Measured | None:
        """Return the cell's teacher with the same vision-language model as the cell."""
        return self.teachers.get((cell.teacher, self._reader(cell)))

    def awaited_by(self, cell: Cell) -> list[Stage]:
        """Return the stages that must end before the cell's file is written: its own and its teacher's."""
        teacher = self.teacher_of(cell)
        return [*self.cells[cell].stages, *(teacher.stages if teacher is not None else [])]

    def _reader(self, cell: Cell) -> Reader:
        """Return the vision-language model of the cell as teachers and references get it."""
        return cell.reader if self._repeats else replace(cell.reader, vlm_seed=None)

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
        readings = self._vqa(training.output, cell.reader, (training,))
        return Measured(evaluate, readings, self._cost(preset), training)

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

    def _teacher(self, name: str, reader: Reader) -> Measured:
        model, made_by = self._teacher_model(name)
        # Its size is that of what it was before its training.
        size = made_by[0].arguments["model_name_or_path"] if made_by else model
        evaluate, readings = self._evaluate(model, made_by, None), self._vqa(model, reader, made_by)
        return Measured(evaluate, readings, self._cost(size), next(iter(made_by), None))

    def _teacher_model(self, name: str) -> tuple[Model, tuple[Stage, ...]]:
        entry = self.study.teachers[name]
        if isinstance(entry, dict):
            entry = {key: value for key, value in entry.items() if key != "strength"}
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

    def language_model(self, name: str) -> tuple[Model, tuple[Stage, ...]]:
        entry = self.study.language_models[name]
        if isinstance(entry, str):
            return entry, ()
        arguments, seconds = self._recipe("language_models", entry, "language_model")
        stage = Stage("language_model", arguments, (), seconds)
        return stage.output, (stage,)

    # ---- Measuring ----

    def _evaluate(self, model: Model, needs: tuple[Stage, ...], teacher: str | None) -> Stage:
        arguments, seconds = self._recipe("evaluate", self.study.evaluate, "evaluate")
        blocks, read_by = self._representation()
        needs = (*needs, *read_by)
        if teacher is not None and blocks:
            compared, made_by = self._teacher_model(teacher)
            needs = (*needs, *(stage for stage in made_by if stage not in needs))
            blocks = {name: block | {"teacher": compared} for name, block in blocks.items()}
        arguments["evaluation"] = (arguments.get("evaluation") or {}) | blocks
        return Stage("evaluate", arguments | {"model_name_or_path": model}, needs, seconds)

    def _floor(self, tower: Model | None) -> Stage | None:
        """Return the stage that probes a reference, such as an untrained tower, without a language model."""
        blocks, needs = self._representation()
        if tower is None or not blocks:
            return None
        arguments, seconds = self._recipe("evaluate", self.study.evaluate, "evaluate")
        told = {"evaluation": blocks, "model_name_or_path": tower, "untrained": True}
        return Stage("evaluate", arguments | told, needs, seconds)

    def _representation(self) -> tuple[dict[str, dict[str, Any]], tuple[Stage, ...]]:
        """Return the blocks of `representation`. A `language_model` of the study's is its folder, which is needed."""
        blocks, needs = {}, {}
        for name, block in (self.study.representation or {}).items():
            blocks[name] = dict(block)
            if block.get("language_model") in self.study.language_models:
                blocks[name]["language_model"], made_by = self.language_model(block["language_model"])
                needs |= dict.fromkeys(made_by)
        return blocks, tuple(needs)

    def _vqa(self, tower: Model | None, reader: Reader, needs: tuple[Stage, ...]) -> dict[str, Stage]:
        """Return the stages that answer questions, by the name of their reading."""
        if reader.language_model is None:
            return {}
        return {name: self._answers(tower, reader, name, needs) for name in choices(self.study, reader.reading)}

    def _answers(self, tower: Model | None, reader: Reader, reading: str, needs: tuple[Stage, ...]) -> Stage:
        model, made_by = self.language_model(reader.language_model)
        start: dict[str, Any] = {"vision_tower": tower, "language_model": model}
        needs, looks = (*needs, *made_by), {"vision_tower": tower}
        for plain, spec in zip(self.study.vlm, stages_of(self.study, reading), strict=True):
            arguments, seconds = self._recipe("vlm", spec, "vlm")
            usual, _ = self._recipe("vlm", plain, "vlm")
            if seconds is not None and "seconds" not in readings_of(self.study)[reading]:
                seconds *= arguments.get("max_steps", 1) / usual.get("max_steps", 1)
            arguments = {
                name: value
                for name, value in arguments.items()
                if name not in ("vision_tower", "language_model", "beside")
            }
            arguments |= start | ({} if reader.vlm_seed is None else {"seed": reader.vlm_seed})
            looks |= {name: arguments[name] for name in LOOKS if arguments.get(name) is not None}
            cached = arguments.get("feature_cache") is not None
            placed = {"feature_cache": FEATURES / digits(looks)} if cached else {}
            stage = Stage("vlm", arguments, needs, seconds, placed)
            start, needs = {"model_name_or_path": stage.output}, (stage,)
        training, evaluation = arguments, arguments.get("evaluation")
        if self.study.vqa is not None:
            arguments, seconds = self._recipe("vqa", self.study.vqa, "vqa")
            stage, evaluation = Stage("vqa", arguments | start, needs, seconds), arguments.get("evaluation")
        check_answers(self.study, training, evaluation)
        return stage

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
        if path not in self._yamls:
            words = {"allowed": "It must hold the arguments of a recipe.", "fix": "Correct it."}
            self._yamls[path] = read_yaml(path, **words)
        # The study decides on the folder.
        return {key: value for key, value in (self._yamls[path] | values).items() if key != "output_dir"}, seconds


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
