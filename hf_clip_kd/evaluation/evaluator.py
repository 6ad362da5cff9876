"""Evaluator: a callable from a model and its processor to named numbers."""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from datasets import Dataset, Image

from ..models.eval_mode import eval_mode
from ..recipe_io.results import check_counts, data_names, result_path, save_results, write_whole

logger = logging.getLogger(__name__)


class Evaluator(ABC):
    """
    Measure a dual encoder: `evaluator(model, processor) -> dict[str, float]`.

    The model is put in eval mode and runs without gradients where its parameters are. Each of its modules gets its own
    mode back afterwards. In a distributed run every process measures the whole dataset.

    Attributes:
        name (`str`): Tells evaluators with the same metrics apart, see [`SequentialEvaluator`].
        metric_names (`tuple[str, ...]`): Keys of the metrics that the evaluator can return.
        primary_metric (`str`): The key that selects the best model.
        greater_is_better (`bool`): `True` if a larger `primary_metric` is better.
        task (`str`): CLIP_benchmark's name of the task, for the results file.
        details (`Mapping[str, Any]`): Further facts about the last call for the results file.
        counts (`Mapping[str, int]`): Numbers of images, classes and texts that the last call scored, for that file.
            Before the first call, those of the data.
        least (`Mapping[str, int]`): The smallest counts that make a score.
        samples (`Sequence[Mapping[str, Any]]`): Outcome of each case of the last call, for `samples/*.jsonl`.
    """

    name: str
    metric_names: tuple[str, ...]
    primary_metric: str
    greater_is_better: bool = True
    task: str
    details: Mapping[str, Any] = MappingProxyType({})
    counts: Mapping[str, int] = MappingProxyType({})
    least: Mapping[str, int] = MappingProxyType({})
    samples: Sequence[Mapping[str, Any]] = ()

    @abstractmethod
    def evaluate(self, model, processor) -> dict[str, float]:
        """Measure `model`, which is in eval mode already, without gradients."""

    def __call__(self, model, processor) -> dict[str, float]:
        """
        Measure a model in eval mode, without gradients.

        Args:
            model ([`~transformers.PreTrainedModel`] or [`CLIPTeacher`]):
                Anything with `get_image_features(pixel_values=)` and `get_text_features(input_ids=, attention_mask=)`.
            processor ([`~transformers.ProcessorMixin`]):
                The model's own `image_processor` (its evaluation preprocessing) and `tokenizer`.

        Returns:
            `dict[str, float]`: Metrics between 0 and 1 under CLIP_benchmark's names.

        Raises:
            ValueError: The model returns features that are not finite, or too little could be scored.
        """
        with eval_mode(model), torch.no_grad():
            metrics = self.evaluate(model, processor)
        self.check()
        if self.counts:
            scored = ", ".join(f"{number} {kind.removeprefix('n_')}" for kind, number in self.counts.items())
            logger.info("%s scored %s.", self.name, scored)
        return metrics

    def check(self) -> None:
        """
        Judge whether the data, or what was scored of them, make a score.

        Raises:
            ValueError: They hold less than `least`.
        """
        check_counts(f"The evaluator {self.name!r}", self.counts, self.least)


class SequentialEvaluator(Evaluator):
    """
    Run several evaluators and merge their metrics.

    A metric of a single evaluator keeps its plain name (`acc1`). A metric of several gets the names of its evaluators
    in front (`cifar10/acc1`, `cifar100/acc1`).

    Args:
        evaluators (sequence of [`Evaluator`]):
            Never empty. The `primary_metric` of the first is that of the whole.
        name (`str`, *optional*, defaults to `"sequential"`):
            Name of the whole.

    Raises:
        ValueError: There is no evaluator, or two with the same metrics have the same name.
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

    def check(self) -> None:
        """Judge the data of each evaluator, see [`Evaluator.check`]."""
        for evaluator in self.evaluators:
            evaluator.check()

    def named(self, evaluator: Evaluator, metrics: dict[str, float]) -> dict[str, float]:
        """Rename the metrics of one of the `evaluators` as they are in the whole."""
        return {self._key(evaluator, metric): value for metric, value in metrics.items()}

    def evaluate(self, model, processor) -> dict[str, float]:
        """Measure with all evaluators, in their order."""
        merged = {}
        for evaluator in self.evaluators:
            merged |= self.named(evaluator, evaluator(model, processor))
        return merged


def check_dataset(dataset: Dataset, columns: dict[str, str], name: str) -> Dataset:
    """
    Check that a dataset has rows and the columns an evaluator reads, and leave its images undecoded.

    Args:
        dataset ([`~datasets.Dataset`]): The argument of the evaluator.
        columns (`dict[str, str]`): Argument of the evaluator to column, e.g. `{"image_column": "image"}`.
        name (`str`): Name of the evaluator, for the message.

    Returns:
        [`~datasets.Dataset`]: the same rows. Its image columns come as stored files. The encoder then meets a broken
        file, and the reading of a whole batch does not.

    Raises:
        ValueError: It is a stream, has no rows, or lacks a column.
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
    failed: dict[str, str] | None = None,
) -> dict[str, float]:
    """
    Run every part of an evaluator and store each result in a file of its own.

    Args:
        evaluator ([`SequentialEvaluator`]): From [`build_evaluator`] with `evaluation`.
        model, processor: Arguments of [`Evaluator`].
        evaluation (`dict[str, dict]`): The recipe's block; it names the data of each part in its file. A part with
            `samples` leaves them as `folder/samples/*.jsonl`, a line each.
        folder (`str` or `Path`, *optional*): Folder of the files; `None` stores nothing (all but the main process).
        name (`str`): The model's folder, Hub id or architecture.
        config (`dict`): Every argument that the numbers depend on.
        pretrained (`str`, *optional*, defaults to `""`): open_clip's tag of the weights.
        failed (`dict[str, str]`, *optional*): Gets the name and the error of each part that fails, and the others go
            on. Without it the first error ends the measurement.

    Returns:
        `dict[str, float]`: all metrics, under their names in the whole.

    Raises:
        ValueError: See [`Evaluator`]. A part that fails leaves no file. Or two parts would write the same file.
    """
    if failed is None:
        evaluator.check()
    names = data_names(evaluation)
    files: dict[Path, str] = {}
    for part in evaluator.evaluators:
        path = result_path("", dataset=names[part.name], model=name, pretrained=pretrained, task=part.task)
        if path in files:
            raise ValueError(
                f"`evaluation`: {files[path]!r} and {part.name!r} would both write {path}. Each part needs a file of "
                "its own. Rename their data, or measure them with another `output_dir` each."
            )
        files[path] = part.name
    scores = {}
    for path, part in zip(files, evaluator.evaluators, strict=True):
        try:
            metrics = part(model, processor)
        except ValueError as error:
            if failed is None:
                raise
            failed[part.name] = str(error)
            continue
        scores |= evaluator.named(part, metrics)
        if folder is not None:
            if part.samples:
                lines = "".join(f"{json.dumps(line)}\n" for line in part.samples)
                write_whole(Path(folder, "samples", f"{path.stem}.jsonl"), lines)
            save_results(
                folder,
                dataset=names[part.name],
                model=name,
                pretrained=pretrained,
                task=part.task,
                metrics=metrics,
                config=config | {"evaluation": evaluation, "torch": torch.__version__},
                details=dict(part.details),
                counts=part.counts,
            )
    return scores
