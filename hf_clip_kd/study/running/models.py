"""Teachers and language models of a study: what recipes call them, and the stages that make them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from .arguments import StudyArguments
from .launch import launch_of
from .stages import Stage
from .yamls import Yamls

Model = str | PurePosixPath  # a name that a recipe takes, or a folder that a stage makes
LIFT = "lift"
# Values of an entry in `teachers` that no recipe gets.
OWN = ("strength", LIFT)


@dataclass(frozen=True)
class TeacherModel:
    """One teacher as the recipes name it."""

    name: Any = field(metadata={"help": "Name for `distill.py` and `cache_teacher.py`, or a mapping with it."})
    tower: Model = field(metadata={"help": "Name for `evaluate.py` and `train_vlm.py`."})
    size: Model | None = field(
        metadata={"help": "Model of the same size, for `measure_cost.py`; `None` for one without texts."}
    )
    made_by: tuple[Stage, ...] = field(metadata={"help": "Stages that make it, its own training last."})
    has_texts: bool = field(
        default=True, metadata={"help": "False for a vision model, or a tower out of a vision-language model."}
    )

    @property
    def training(self) -> Stage | None:
        """Its own training, if it is a stage of the study."""
        return self.made_by[-1] if self.made_by else None


class Models:
    """
    Teachers and language models by their names in a study.

    Args:
        study ([`StudyArguments`]): The study's YAML.
        yamls ([`Yamls`]): The YAMLs that it names.
    """

    def __init__(self, study: StudyArguments, yamls: Yamls):
        self.study, self.yamls = study, yamls
        self._stage = partial(Stage, launch=launch_of(study.accelerate_config))

    def teacher(self, name: str) -> TeacherModel:
        """
        Return a teacher.

        Raises:
            ValueError: if the entry in `teachers` does not say what it is, or lifts what cannot be lifted.
        """
        entry = self.study.teachers[name]
        if isinstance(entry, dict) and LIFT in entry:
            return self._lifted(name, entry)
        if isinstance(entry, dict):
            entry = {key: value for key, value in entry.items() if key not in OWN}
        if not isinstance(entry, dict) or ("model" in entry) == ("recipe" in entry):
            raise ValueError(
                f"`teachers`, {name!r}: {entry!r} does not say what it is. A teacher has a `model`, its folder or "
                "name, or a `recipe`, the YAML that trains it. "
                f"Write for example `{name}: {{model: openai/clip-vit-base-patch16}}`."
            )
        if "model" in entry:
            model = entry["model"]
            texts = _has_texts(model)
            return TeacherModel(model, model, model if texts else None, (), texts)
        arguments, seconds = self.yamls.recipe("teachers", entry, "teacher")
        stage = self._stage("teacher", arguments | {"evaluation": None}, (), seconds)
        # Its size is that of what it was before its training.
        return TeacherModel(stage.output, stage.output, arguments["model_name_or_path"], (stage,))

    def _lifted(self, name: str, entry: dict[str, Any]) -> TeacherModel:
        """
        Return a teacher whose tower was trained on inside a vision-language model.

        Its embeddings and texts stay those of the teacher it was lifted from.
        """
        lifted, teachers, models = entry[LIFT], self.study.teachers, list(self.study.language_models)
        others = [other for other, value in teachers.items() if isinstance(value, dict) and _has_one_tower(value)]
        reads = entry.get("language_model", next(iter(models), None))
        if lifted not in others or "recipe" not in entry or reads not in models:
            raise ValueError(
                f"`teachers`, {name!r}: {entry} lifts {lifted!r} with the language model {reads!r}. It must name "
                f"another teacher, of {others}, the `recipe` of `train_vlm.py` that trains its tower, and a language "
                f"model of {models}. "
                f"Write for example `{name}: {{{LIFT}: {(others or ['L'])[0]}, recipe: shapes/lift.yaml}}`."
            )
        plain = self.teacher(lifted)
        values = {key: value for key, value in entry.items() if key not in OWN}
        arguments, seconds = self.yamls.recipe("teachers", values, LIFT)
        model, made_by = self.language_model(reads)
        # A YAML of a second stage starts from the LLaVA of a first.
        arguments = {key: value for key, value in arguments.items() if key not in ("model_name_or_path", "beside")}
        told = arguments | {"vision_tower": plain.tower, "language_model": model}
        stage = self._stage(LIFT, told, (*plain.made_by, *made_by), seconds)
        names = {"name": plain.name, "tokens_from": stage.output}
        return TeacherModel(names, stage.output, plain.size, (*plain.made_by, stage), has_texts=False)

    def language_model(self, name: str) -> tuple[Model, tuple[Stage, ...]]:
        """Return a language model's folder or name, and the stage that makes it, if it is made."""
        entry = self.study.language_models[name]
        if isinstance(entry, str):
            return entry, ()
        arguments, seconds = self.yamls.recipe("language_models", entry, "language_model")
        stage = self._stage("language_model", arguments, (), seconds)
        return stage.output, (stage,)


def _has_texts(model: Any) -> bool:
    """Return False for `timm:NAME`, which has no texts, and for a mapping or list of such names alone."""
    if isinstance(model, list):
        return any(map(_has_texts, model))
    name = model.get("name") if isinstance(model, dict) else model
    return not str(name).startswith("timm:")


def _has_one_tower(entry: dict[str, Any]) -> bool:
    """Return True for a teacher that is neither lifted nor an ensemble."""
    return LIFT not in entry and isinstance(entry.get("model", ""), str)
