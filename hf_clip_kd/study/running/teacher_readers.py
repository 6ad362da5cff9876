"""Frozen readers that objectives name: the vision-language models that a study makes of its teachers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .objectives import Losses
from .stages import Stage

OPTION = "reader"  # Option of a loss.
TEACHER = "teacher"  # Name of a reader that the study makes.


def with_readers(losses: Losses, make: Callable[[str | None], Stage]) -> tuple[Losses, tuple[Stage, ...]]:
    """
    Return losses whose readers are folders, and the stages that make these.

    `reader: teacher` is the vision-language model of the cell's teacher with the study's first language model.
    `{name: teacher, language_model: NAME}` is that with another. All other keys of an entry stay, and so do all other
    names. An option may list several readers.

    Args:
        losses (`str` or `dict`): Losses of an objective.
        make (`Callable`): Returns the stage that makes the reader with a language model; `None` is the first.
    """
    if not isinstance(losses, Mapping):
        return losses, ()
    found: dict[str, Stage] = {}

    def placed(entry: Any) -> Any:
        named = {"name": entry} if isinstance(entry, str) else entry
        if not isinstance(named, Mapping) or named.get("name") != TEACHER:
            return entry
        stage = make(named.get("language_model"))
        found[stage.id] = stage
        rest = {key: value for key, value in named.items() if key not in ("name", "language_model")}
        return {"name": stage.output, **rest} if rest else stage.output

    told = {}
    for name, spec in losses.items():
        if isinstance(spec, Mapping) and OPTION in spec:
            given = spec[OPTION]
            spec = {**spec, OPTION: [placed(entry) for entry in given] if isinstance(given, list) else placed(given)}
        told[name] = spec
    return told, tuple(found.values())


def without_readers(losses: Losses) -> Losses:
    """Return losses without their readers: a cache of the teacher holds the same tokens for each of them."""
    if not isinstance(losses, Mapping):
        return losses
    return {
        name: {key: value for key, value in spec.items() if key != OPTION} if isinstance(spec, Mapping) else spec
        for name, spec in losses.items()
    }
