"""Evaluators out of the `evaluation` mapping of a recipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from datasets import Dataset

from .evaluator import SequentialEvaluator
from .retrieval import RetrievalEvaluator
from .zero_shot import ZeroShotClassificationEvaluator

TASKS = {"zero_shot": ZeroShotClassificationEvaluator, "retrieval": RetrievalEvaluator}
# The options that belong to an evaluator; all others say where its data comes from.
_EVALUATOR_OPTIONS = ("class_names", "templates", "label_column", "batch_size")


def build_evaluator(evaluation: dict[str, dict[str, Any]], load: Callable[..., Dataset]) -> SequentialEvaluator:
    """
    Args:
        evaluation (`dict[str, dict]`):
            Name to options: `task` (`"zero_shot"` or `"retrieval"`, by default the name itself), the evaluator's own
            (`class_names`, `templates`, `label_column`, `batch_size`), and the arguments of `load`.
        load (`Callable`):
            Reads the data, normally [`load_image_text`]; its columns are `image` and `text`.

    Returns:
        [`SequentialEvaluator`] over all of them.

    Raises:
        ValueError: if a task is unknown or an evaluator cannot be built.
    """
    evaluators = []
    for name, options in evaluation.items():
        data = dict(options)
        task = data.pop("task", name)
        if task not in TASKS:
            raise ValueError(
                f"`evaluation` asks for the task {task!r} (entry {name!r}), which does not exist. Tasks are "
                f"{', '.join(TASKS)}. Name the entry after its task or add `task: zero_shot` to it."
            )
        own = {option: data.pop(option) for option in _EVALUATOR_OPTIONS if option in data}
        evaluators.append(TASKS[task](load(**data), **own, name=name))
    return SequentialEvaluator(evaluators)
