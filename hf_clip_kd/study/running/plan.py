"""The stages that make and measure each cell. Equal stages are one stage."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from .answering import Answering
from .arguments import StudyArguments
from .caches import cache_losses
from .grid import Cell, Reader, cells_of, repeats_vlm
from .launch import launch_of
from .models import Model, Models, TeacherModel
from .objectives import Losses, reads_generated_captions, reads_projector
from .readings import choices, readings_of
from .stages import Stage, with_needed
from .teacher_readers import with_readers, without_readers
from .yamls import Yamls

CAPTIONS = "synthetic_text_column"
SHARED = ("language_model", "teacher", "lift", "cache")  # kinds of stages that many others need


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
    tables: dict[str, dict[str, Stage]] = field(
        default_factory=dict,
        metadata={"help": "Name of a reading to the title of a set of further benchmarks to the stage that answers."},
    )

    @property
    def vqa(self) -> Stage | None:
        """The stage that leaves the VQA results, the first of several."""
        return next(iter(self.readings.values()), None)

    @property
    def stages(self) -> list[Stage]:
        tables = [stage for group in self.tables.values() for stage in group.values()]
        stages = (self.training, self.evaluate, *self.readings.values(), *tables, self.cost)
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
        self.study = study
        self._yamls = Yamls(configs, study.estimates)
        self._stage = partial(Stage, launch=launch_of(study.accelerate_config))
        self.models = Models(study, self._yamls)
        self._answering = Answering(study, self._yamls, self.models)
        self._grid = cells_of(study)
        self._repeats = repeats_vlm(study)
        objectives = {cell.objective: study.objectives[cell.objective] for cell in self._grid}
        self._captioned = {name for name, losses in objectives.items() if reads_generated_captions(losses)}
        self._projected = {name for name, losses in objectives.items() if reads_projector(losses)}
        self.cells: dict[Cell, Measured] = {cell: self._student(cell) for cell in self._grid}
        readers = dict.fromkeys(map(self._reader, self._grid))
        names = dict.fromkeys(cell.teacher for cell in self._grid if cell.teacher is not None)
        self.teachers = {(name, reader): self._teacher(name, reader) for name in names for reader in readers}
        self.references = {
            (name, reader): Measured(self._floor(tower), self._answering.readings(tower, reader, ()), None, None)
            for name, tower in study.references.items()
            for reader in readers
        }

    @property
    def stages(self) -> list[Stage]:
        """All stages: first those that others wait for, the longest in front, then teachers, then cell after cell."""
        measured = [*self.cells.values(), *self.teachers.values()]
        every = [stage for tower in measured for stage in tower.stages]
        awaited = {need.id: need for stage in every for need in stage.needs if need.kind in SHARED}
        # A student that learns through its teacher's own vision-language model waits for it.
        readers = [need for stage in every if stage.kind == "student" for need in stage.needs if need.kind == "vlm"]
        awaited |= {need.id: need for need in readers}
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
        arguments, seconds = self._yamls.recipe("distill", study.distill, "student")
        arguments |= self._data(cell)
        losses, readers = self._losses(cell)
        arguments |= {"model_name_or_path": preset, "losses": losses, "seed": cell.seed}
        arguments |= _prolonged(arguments, study.durations[cell.duration], cell.duration)
        needs: tuple[Stage, ...] = ()
        placed: dict[str, Any] = {}
        if cell.teacher is not None:
            teacher = self._read_by_student(cell)
            arguments["teacher_model_name_or_path"], needs = teacher.name, teacher.made_by
            if study.cache is not None:
                own, shared = self._caches(cell, teacher)
                # Another objective may ask for more. The features of this one stay the same, and so does its id.
                arguments["teacher_cache"], placed["teacher_cache"] = own.output, shared.output
                needs = (*needs, shared)
            needs = (*needs, *readers)
        elif study.crops_from is not None:
            own, shared = self._caches(replace(cell, teacher=study.crops_from), self.models.teacher(study.crops_from))
            arguments["teacher_cache"], placed["teacher_cache"] = own.output, shared.output
            needs = (shared,)
        seconds = None if seconds is None else seconds * study.durations[cell.duration]
        training = self._stage("student", arguments | {"evaluation": None}, needs, seconds, placed)
        evaluate = self._evaluate(training.output, (training,), cell.teacher or study.reference_teacher)
        readings = self._answering.readings(training.output, cell.reader, (training,))
        tables = self._answering.tables(training.output, cell.reader, (training,))
        return Measured(evaluate, readings, self._cost(preset), training, tables)

    def _losses(self, cell: Cell) -> tuple[Losses, tuple[Stage, ...]]:
        """Return the losses of a cell, and the stages of the readers that they name."""

        def make(language_model: str | None) -> Stage:
            return self._llava(cell, language_model)

        return with_readers(self.study.objectives[cell.objective], make)

    def _llava(self, cell: Cell, language_model: str | None = None) -> Stage:
        """Return the stage of the vision-language model of the cell's teacher, by default with the first reading."""
        study = self.study
        name = next(iter(study.language_models), None) if language_model is None else language_model
        if name not in study.language_models or cell.teacher is None:
            raise ValueError(
                f"`objectives`, {cell.objective!r}: {study.objectives[cell.objective]} reads with the language "
                f"model {name!r} of the teacher {cell.teacher!r}. Both must be the study's; `language_models` has "
                f"{list(study.language_models)}. Correct it, or name the folder of a reader."
            )
        teacher, first = self.models.teacher(cell.teacher), next(iter(readings_of(study)))
        # It is the one that measures this teacher, too.
        reader = replace(self._reader(self._grid[0]), language_model=name, reading=first)
        return self._answering.llava(teacher.tower, reader, choices(study, first)[0], teacher.made_by)

    def _read_by_student(self, cell: Cell) -> TeacherModel:
        """Return the cell's teacher, with the tokens of its vision-language model if the losses read its projector."""
        teacher = self.models.teacher(cell.teacher)
        if cell.objective not in self._projected or isinstance(teacher.name, dict | list):
            return teacher
        llava = self._llava(cell)
        name = {"name": teacher.name, "tokens_from": llava.output}
        return replace(teacher, name=name, made_by=(*teacher.made_by, llava))

    def _data(self, cell: Cell) -> dict[str, Any]:
        """Return the arguments of the data, without generated captions that no loss reads: each would be embedded."""
        data = self.study.data[cell.data]
        if cell.objective in self._captioned:
            return data
        data = {name: value for name, value in data.items() if name != CAPTIONS}
        if "datasets" in data:
            sources = [
                {name: value for name, value in source.items() if name != CAPTIONS} for source in data["datasets"]
            ]
            data |= {"datasets": sources}
        return data

    def _teacher(self, name: str, reader: Reader) -> Measured:
        model = self.models.teacher(name)
        evaluate = self._evaluate(model.tower, model.made_by, None) if model.has_texts else self._probed(model)
        readings = self._answering.readings(model.tower, reader, model.made_by)
        return Measured(evaluate, readings, self._cost(model.size), model.training)

    def _caches(self, cell: Cell, teacher: TeacherModel) -> tuple[Stage, Stage]:
        """Return the cache that the cell would need alone, and the shared cache of its teacher and data."""
        arguments, seconds = self._yamls.recipe("cache", self.study.cache, "cache")
        data = self._data(cell)
        arguments |= data | {"teacher_model_name_or_path": teacher.name}
        alike = {
            other.objective: without_readers(self.study.objectives[other.objective])
            for other in self._grid
            if other.teacher == cell.teacher
            and self._data(other) == data
            and self._read_by_student(other).name == teacher.name
        }
        # A student without a teacher reads no feature of the cache, only its crops.
        alike.setdefault(cell.objective, self.study.objectives[cell.objective])
        own = cache_losses({cell.objective: alike[cell.objective]})
        return tuple(
            self._stage("cache", arguments | {"losses": losses[cell.objective]}, teacher.made_by, seconds)
            for losses in (own, cache_losses(alike))
        )

    # ---- Measuring ----

    def _evaluate(self, model: Model, needs: tuple[Stage, ...], teacher: str | None) -> Stage:
        arguments, seconds = self._yamls.recipe("evaluate", self.study.evaluate, "evaluate")
        if arguments.get("suite") is not None:
            raise ValueError(
                f"`evaluate` has `suite: {arguments['suite']}`, and a study measures the blocks of `evaluation`. Each "
                "data set must be a block there. Write `NAME: {task: zero_shot, dataset_name: webdataset, ...}`."
            )
        blocks, read_by = self._representation()
        needs = (*needs, *read_by)
        if teacher is not None and blocks:
            compared = self.models.teacher(teacher)
            needs = (*needs, *(stage for stage in compared.made_by if stage not in needs))
            blocks = {name: block | {"teacher": compared.tower} for name, block in blocks.items()}
        arguments["evaluation"] = (arguments.get("evaluation") or {}) | blocks
        return self._stage("evaluate", arguments | {"model_name_or_path": model}, needs, seconds)

    def _floor(self, tower: Model | None) -> Stage | None:
        """Return the stage that probes a reference, such as an untrained tower, without a language model."""
        return None if tower is None else self._blocks({"model_name_or_path": tower, "untrained": True}, ())

    def _probed(self, teacher: TeacherModel) -> Stage | None:
        """Return the stage that probes a teacher without texts: it has neither zero-shot accuracy nor retrieval."""
        return self._blocks({"model_name_or_path": teacher.tower}, teacher.made_by)

    def _blocks(self, told: dict[str, Any], needs: tuple[Stage, ...]) -> Stage | None:
        """Return the stage that measures the blocks of `representation` alone; `None` without any."""
        blocks, read_by = self._representation()
        if not blocks:
            return None
        arguments, seconds = self._yamls.recipe("evaluate", self.study.evaluate, "evaluate")
        return self._stage("evaluate", arguments | {"evaluation": blocks} | told, (*needs, *read_by), seconds)

    def _representation(self) -> tuple[dict[str, dict[str, Any]], tuple[Stage, ...]]:
        """Return the blocks of `representation`. A `language_model` of the study's is its folder, which is needed."""
        blocks, needs = {}, {}
        for name, block in (self.study.representation or {}).items():
            blocks[name] = dict(block)
            if block.get("language_model") in self.study.language_models:
                blocks[name]["language_model"], made_by = self.models.language_model(block["language_model"])
                needs |= dict.fromkeys(made_by)
        return blocks, tuple(needs)

    def _cost(self, model: Model | None) -> Stage | None:
        seconds = self.study.estimates.get("cost")
        return None if model is None else self._stage("cost", {"model_name_or_path": model}, (), seconds)


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
