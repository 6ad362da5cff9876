"""What every evaluator is: a callable from a model and its processor to named numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from datasets import Dataset, Image

from ..models.eval_mode import eval_mode
from ..recipe_io.results import data_name, save_results


class Evaluator(ABC):
    """
    Measures a dual encoder: `evaluator(model, processor) -> dict[str, float]`.

    The model is put in eval mode, runs without gradients where its parameters are, and gets back the mode of each of
    its modules afterwards. In a distributed run every process measures the whole dataset.

    Attributes:
        name (`str`): Tells evaluators with the same metrics apart, see [`SequentialEvaluator`].
        metric_names (`tuple[str, ...]`): Keys of the metrics that the evaluator can return.
        primary_metric (`str`): The key that selects the best model.
        greater_is_better (`bool`): Whether a larger `primary_metric` is better.
        task (`str`): CLIP_benchmark's name of the task, for the results file.
        details (`Mapping[str, Any]`): What else the results file says about the last call.
    """

    name: str
    metric_names: tuple[str, ...]
    primary_metric: str
    greater_is_better: bool = True
    task: str
    details: Mapping[str, Any] = MappingProxyType({})

    @abstractmethod
    def evaluate(self, model, processor) -> dict[str, float]:
        """Metrics of `model`, which is in eval mode already; called without gradients."""

    def __call__(self, model, processor) -> dict[str, float]:
        """
        Args:
            model ([`~transformers.PreTrainedModel`] or [`CLIPTeacher`]):
                Anything with `get_image_features(pixel_values=)` and `get_text_features(input_ids=, attention_mask=)`.
            processor ([`~transformers.ProcessorMixin`]):
                The model's own `image_processor` (its evaluation preprocessing) and `tokenizer`.

        Returns:
            `dict[str, float]`: Metrics between 0 and 1 under CLIP_benchmark's names.

        Raises:
            ValueError: if the model returns features that are not finite.
        """
        with eval_mode(model), torch.no_grad():
            return self.evaluate(model, processor)


class SequentialEvaluator(Evaluator):
    """
    Runs several evaluators and merges their metrics.

    A metric that one evaluator has keeps its plain name (`acc1`); one that several have gets the names of its
    evaluators in front (`cifar10/acc1`, `cifar100/acc1`).

    Args:
        evaluators (sequence of [`Evaluator`]):
            At least one. The first one's `primary_metric` is that of the whole.
        name (`str`, *optional*, defaults to `"sequential"`):
            Name of the whole.

    Raises:
        ValueError: if there is no evaluator, or if two with the same metrics have the same name.
    """

    task = "sequential"

    def __init__(self, evaluators: Sequence[Evaluator], *, name: str = "sequential"):
        if not evaluators:
            raise ValueError(
                "`evaluators` is empty, so there is nothing to measure. "
                "Pass at least one, e.g. `SequentialEvaluator([RetrievalEvaluator(dataset)])`."
            )
        self.evaluators = list(evaluators)
        self.name = name
        counts = Counter(metric for evaluator in self.evaluators for metric in evaluator.metric_names)
        self._shared = {metric for metric, count in counts.items() if count > 1}
        keys = [self._key(evaluator, metric) for evaluator in self.evaluators for metric in evaluator.metric_names]
        repeated = sorted(key for key, count in Counter(keys).items() if count > 1)
        if repeated:
            raise ValueError(
                f"Several evaluators return {repeated}: they have the same metrics and the same name. Names must "
                "differ. Pass `name=...` to each, e.g. `RetrievalEvaluator(dataset, name='coco')`."
            )
        self.metric_names = tuple(keys)
        first = self.evaluators[0]
        self.primary_metric = self._key(first, first.primary_metric)
        self.greater_is_better = first.greater_is_better

    def _key(self, evaluator: Evaluator, metric: str) -> str:
        return f"{evaluator.name}/{metric}" if metric in self._shared else metric

    def named(self, evaluator: Evaluator, metrics: dict[str, float]) -> dict[str, float]:
        """Metrics of one of the `evaluators` under the names they have in the whole."""
        return {self._key(evaluator, metric): value for metric, value in metrics.items()}

    def evaluate(self, model, processor) -> dict[str, float]:
        """The metrics of all evaluators, in their order."""
        merged = {}
        for evaluator in self.evaluators:
            merged |= self.named(evaluator, evaluator.evaluate(model, processor))
        return merged


def check_dataset(dataset: Dataset, columns: dict[str, str], name: str) -> Dataset:
    """
    A dataset that has rows and the columns an evaluator reads, with images left undecoded.

    Args:
        dataset ([`~datasets.Dataset`]): What the evaluator was given.
        columns (`dict[str, str]`): Argument of the evaluator to column, e.g. `{"image_column": "image"}`.
        name (`str`): Name of the evaluator, for the message.

    Returns:
        [`~datasets.Dataset`]: the same rows. Its image columns come as stored files, so that one broken file is met
        by the encoder and not by the reading of a whole batch.

    Raises:
        ValueError: if it is a stream, has no rows, or lacks a column.
    """
    if not isinstance(dataset, Dataset):
        raise ValueError(
            f"The dataset of evaluator {name!r} is a {type(dataset).__name__}. It must be a `datasets.Dataset`, whose "
            "rows can be counted and read twice. Load one split without streaming: `load_dataset(..., split='test')`."
        )
    for argument, column in columns.items():
        if column not in dataset.column_names:
            raise ValueError(
                f"`{argument}={column!r}` of evaluator {name!r} is not a column of its dataset. "
                f"The columns are {dataset.column_names}. Pass one of them as `{argument}=...`."
            )
    if len(dataset) == 0:
        raise ValueError(
            f"The dataset of evaluator {name!r} is empty. At least one row is needed. "
            "Check `split` and any filter, or leave the evaluator out."
        )
    for column in columns.values():
        if isinstance(dataset.features[column], Image):
            dataset = dataset.cast_column(column, Image(decode=False))
    return dataset


def measure(
    evaluator: SequentialEvaluator,
    model,
    processor,
    evaluation: dict[str, dict[str, Any]],
    *,
    folder: str | Path | None,
    name: str,
    config: dict,
    pretrained: str = "",
) -> dict[str, float]:
    """
    Runs every part of an evaluator and stores each result in a file of its own.

    Args:
        evaluator ([`SequentialEvaluator`]): What [`build_evaluator`] made of `evaluation`.
        model, processor: As [`Evaluator`] takes them.
        evaluation (`dict[str, dict]`): The recipe's block; it names the data of each part in its file.
        folder (`str` or `Path`, *optional*): Where the files go; `None` stores nothing (all but the main process).
        name (`str`): The model's folder, Hub id or architecture; `pretrained` is open_clip's tag.
        config (`dict`): Every argument that the numbers depend on.

    Returns:
        `dict[str, float]`: all metrics, under their names in the whole.
    """
    scores = {}
    for part in evaluator.evaluators:
        metrics = part(model, processor)
        scores |= evaluator.named(part, metrics)
        if folder is not None:
            save_results(
                folder,
                dataset=data_name(evaluation[part.name]),
                model=name,
                pretrained=pretrained,
                task=part.task,
                metrics=metrics,
                config=config | {"evaluation": evaluation, "torch": torch.__version__},
                details=dict(part.details),
            )
    return scores
