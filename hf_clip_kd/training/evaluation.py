"""Checks and numbers of an evaluation, whatever mix of data sets and evaluators a trainer has."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils.operations import recursively_apply
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput, speed_metrics

from .distributed import gather
from .meters import Meters

logger = logging.getLogger(__name__)

LOSS_METRICS = ("loss", "eval_loss")  # names of the loss on a plain data set
NOTHING = (
    "There is nothing to evaluate: the trainer has no `eval_dataset` and no `evaluator`. It needs one of them. Pass "
    "for example `evaluator=ZeroShotClassificationEvaluator(dataset, class_names)`."
)


def named_datasets(given: Any, own: Any, prefix: str) -> dict[str, Any]:
    """
    Return the data sets of an evaluation by the prefixes of their metrics.

    Args:
        given: What `Trainer.evaluate` takes: a data set, several by name, a name among the trainer's own, or `None`.
        own: The trainer's `eval_dataset`, which stands in for `None`.
        prefix (`str`): Prefix of all metrics.
    """
    given = own[given] if isinstance(given, str) else own if given is None else given
    if isinstance(given, Mapping):
        return {f"{prefix}_{name}": dataset for name, dataset in given.items()}
    return {} if given is None else {prefix: given}


def check_evaluation(args: TrainingArguments, eval_dataset: Any, evaluator: Callable | None) -> None:
    """
    Check before a run that its evaluations can give what it waits for.

    Raises:
        ValueError: A data set has no rows, fewer than there are processes, or no end. Or the run judges its weights by
            a loss that it never measures.
    """
    datasets = named_datasets(None, eval_dataset, "eval")
    for prefix, dataset in datasets.items():
        which = "`eval_dataset`" if prefix == "eval" else f"`eval_dataset[{prefix.removeprefix('eval_')!r}]`"
        if hasattr(dataset, "loader"):
            raise ValueError(
                f"{which} is a {type(dataset).__name__}, whose rows have no end. An evaluation reads all rows. Pass "
                "the data set itself, for example `load_image_text(..., streaming=True)`."
            )
        if hasattr(dataset, "__len__") and len(dataset) < args.world_size:
            raise ValueError(
                f"{which} has {len(dataset)} rows for {args.world_size} process(es). Each process needs a row. Pass "
                "more rows, or leave it out."
            )
    if args.eval_strategy != "no" and args.metric_for_best_model in LOSS_METRICS and "eval" not in datasets:
        if not datasets and evaluator is None:
            return  # the Trainer has a sentence for that
        known = [f"{prefix}_loss" for prefix in datasets] or ["eval_acc1"]
        raise ValueError(
            f"`metric_for_best_model={args.metric_for_best_model!r}`, also where it was left out, and no evaluation "
            "gives an `eval_loss`. It must be a metric of one data set, or a score of the evaluator. Pass for example "
            f"`metric_for_best_model={known[0]!r}`."
        )


@contextmanager
def evaluator_is_enough(args: TrainingArguments, evaluator: Callable | None) -> Iterator[None]:
    """Check arguments inside, where the Trainer asks for an `eval_dataset` whenever there is an `eval_strategy`."""
    strategy = args.eval_strategy
    if evaluator is not None:
        args.eval_strategy = "no"
    yield
    args.eval_strategy = strategy


def gather_rows(values: Any) -> Any:
    """Return tensors of all processes, in rank order; `gather_for_metrics` takes no unequal numbers of rows."""
    return recursively_apply(gather, values)


def measure(trainer: Trainer, given: Any, ignore_keys: list[str] | None, metric_key_prefix: str) -> dict[str, float]:
    """
    Return and log the metrics of each data set, and the scores of the evaluator, which runs once.

    Args:
        trainer ([`BaseTrainer`]): The trainer, with the weights to evaluate in place.
        given, ignore_keys, metric_key_prefix: Arguments of `Trainer.evaluate`.

    Raises:
        ValueError: There is nothing to evaluate.
    """
    args, metrics = trainer.args, {}
    datasets = named_datasets(given, trainer.eval_dataset, metric_key_prefix)
    if not datasets and trainer.evaluator is None:
        raise ValueError(NOTHING)
    for prefix, dataset in datasets.items():
        start = time.time()
        output = trainer.evaluation_loop(
            trainer.get_eval_dataloader(dataset),
            description="Evaluation",
            prediction_loss_only=True if trainer.compute_metrics is None else None,
            ignore_keys=ignore_keys,
            metric_key_prefix=prefix,
        )
        steps = math.ceil(output.num_samples / (args.eval_batch_size * args.world_size))
        found = output.metrics | speed_metrics(prefix, start, output.num_samples, steps)
        trainer.log(found)
        metrics |= found
        if output.num_samples == 1 and (needs := trainer.needs_others()) and all(needs.values()):
            logger.warning(
                "An evaluation of one row has no negatives: its loss of 0 says nothing. Give `eval_dataset` at least "
                "2 rows."
            )
    if trainer.evaluator is not None:
        scores = {f"{metric_key_prefix}_{name}": score for name, score in trainer.scores().items()}
        trainer.log(dict(scores))
        metrics |= scores
    return metrics


def exact_means(output: EvalLoopOutput, meters: Meters, prefix: str, device: torch.device) -> EvalLoopOutput:
    """
    Return the output of an evaluation with the means of its meters, and with the number of rows as `eval_samples`.

    The stock loop gives each batch the same weight.

    Raises:
        ValueError: There was no row.
    """
    means, rows = meters.read_evaluation(device)
    if not rows:
        raise ValueError(
            "The evaluation read no row. A data set to evaluate must have rows. Look at its files and filters, or "
            "leave `eval_dataset` out."
        )
    metrics = output.metrics | {f"{prefix}_{name}": value for name, value in means.items()}
    return output._replace(metrics=metrics | {f"{prefix}_samples": rows}, num_samples=rows)
