"""The stages that give a tower to a language model and ask it questions."""

from __future__ import annotations

from functools import partial
from typing import Any

from .arguments import StudyArguments
from .grid import Reader
from .launch import launch_of
from .models import Model, Models
from .readings import check_answers, choices, readings_of, stages_of
from .stages import FEATURES, Stage, digits
from .yamls import Yamls

# Arguments that the features of a tower depend on, beside the tower.
LOOKS = ("vision_feature_layer", "image_mode", "image_size", "dtype")


class Answering:
    """
    Vision-language models of a study.

    Args:
        study ([`StudyArguments`]): The study's YAML.
        yamls ([`Yamls`]): The YAMLs that it names.
        models ([`Models`]): Its language models.
    """

    def __init__(self, study: StudyArguments, yamls: Yamls, models: Models):
        self.study, self.yamls, self.models = study, yamls, models
        self._stage = partial(Stage, launch=launch_of(study.accelerate_config))

    def readings(self, tower: Model | None, reader: Reader, needs: tuple[Stage, ...]) -> dict[str, Stage]:
        """Return the stages that answer questions, by the name of their reading."""
        if reader.language_model is None:
            return {}
        return {name: self._answers(tower, reader, name, needs) for name in choices(self.study, reader.reading)}

    def tables(self, tower: Model, reader: Reader, needs: tuple[Stage, ...]) -> dict[str, dict[str, Stage]]:
        """Return the stages that answer each set of further benchmarks, by the name of the reading and the title."""
        if reader.language_model is None or not self.study.vqa_tables:
            return {}
        return {
            name: self._tables(self.llava(tower, reader, name, needs)) for name in choices(self.study, reader.reading)
        }

    def llava(self, tower: Model | None, reader: Reader, reading: str, needs: tuple[Stage, ...]) -> Stage:
        """
        Return the stage whose output is the trained vision-language model of a tower.

        Args:
            tower (`str` or `PurePosixPath`, *optional*): The tower; without it the language model sees nothing.
            reader ([`Reader`]): Language model and seed.
            reading (`str`): Name of a reading that is no choice among others.
            needs (`tuple[Stage, ...]`): Stages that make the tower.
        """
        model, made_by = self.models.language_model(reader.language_model)
        start: dict[str, Any] = {"vision_tower": tower, "language_model": model}
        needs, looks = (*needs, *made_by), {"vision_tower": tower}
        for plain, spec in zip(self.study.vlm, stages_of(self.study, reading), strict=True):
            arguments, seconds = self.yamls.recipe("vlm", spec, "vlm")
            usual, _ = self.yamls.recipe("vlm", plain, "vlm")
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
            stage = self._stage("vlm", arguments, needs, seconds, placed)
            start, needs = {"model_name_or_path": stage.output}, (stage,)
        return stage

    def _tables(self, training: Stage) -> dict[str, Stage]:
        found = {}
        for title, spec in self.study.vqa_tables.items():
            if not isinstance(spec, str | dict):
                raise ValueError(
                    f"`vqa_tables`, {title!r}: {spec!r} is no set of benchmarks. It must be a YAML of "
                    "`evaluate_vlm.py`, or a mapping with it as `recipe`. Write for example "
                    f"`{title}: ../evaluate_vlm/documents.yaml`."
                )
            arguments, seconds = self.yamls.recipe("vqa_tables", spec, "vqa")
            found[title] = self._stage(
                "vqa", arguments | {"model_name_or_path": training.output}, (training,), seconds
            )
        return found

    def _answers(self, tower: Model | None, reader: Reader, reading: str, needs: tuple[Stage, ...]) -> Stage:
        training = stage = self.llava(tower, reader, reading, needs)
        if self.study.vqa is not None:
            arguments, seconds = self.yamls.recipe("vqa", self.study.vqa, "vqa")
            stage = self._stage("vqa", arguments | {"model_name_or_path": training.output}, (training,), seconds)
        check_answers(self.study, training.arguments, stage.arguments.get("evaluation"))
        return stage
