"""Evaluator that asks a vision-language model the questions of benchmarks, and keeps every answer with the numbers."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate.utils import broadcast_object_list

from ...recipe_io.foreign import read_json
from ...recipe_io.results import check_answers, result_path, save_results, write_whole
from .benchmarks import Benchmark
from .files import Sample
from .generation import generate_answers
from .metric import VQAMetric

logger = logging.getLogger(__name__)

# These keys of a metric's result are no metrics.
_ABOUT = ("benchmark", "protocol", "n_samples", "scores", "confidence_intervals", "bootstrap")


@dataclass(frozen=True)
class LoadedBenchmark:
    """
    Entry of a recipe's `evaluation`, with its questions.

    Attributes:
        name (`str`): Key in `evaluation`.
        benchmark ([`Benchmark`]): Declaration of the benchmark.
        samples (`list[Sample]`): Questions; their image files exist.
        protocol (`str`): Rules of asking and scoring, `"llava"` or `"lmms_eval"`.
        metric ([`VQAMetric`], *optional*): `None` if answers can only be exported: no metric, or hidden answers.
        batch_size (`int`): Questions per call of `generate`.
        max_new_tokens (`int`): Longest answer in tokens.
        options (`dict`): The entry as the recipe has it.
    """

    name: str
    benchmark: Benchmark
    samples: list[Sample]
    protocol: str
    metric: VQAMetric | None
    batch_size: int
    max_new_tokens: int
    options: dict[str, Any]


class VQAEvaluator:
    """
    Evaluator of a vision-language model: `evaluator(model, processor) -> {"gqa": 0.62, "pope": 0.86, ...}`.

    [`build_vqa_evaluator`] makes it. Every process of a distributed run must call it. They share the questions, and
    the main process gets a `folder` and writes.

    Args:
        benchmarks (`list[LoadedBenchmark]`): Benchmarks to ask.

    Attributes:
        results (`dict[str, dict]`):
            Name of the entry to the whole result of its metric, with the score of each sample. Filled by a call.
    """

    def __init__(self, benchmarks: list[LoadedBenchmark]):
        self.benchmarks = benchmarks
        self.results: dict[str, dict] = {}

    def __call__(
        self,
        model,
        processor,
        *,
        folder: str | Path | None = None,
        name: str = "model",
        config: dict | None = None,
        weights: str | None = None,
    ) -> dict[str, float]:
        """
        Answer every question, score the answers and write, benchmark by benchmark.

        - `folder/NAME_MODEL_vqa_PROTOCOL.json`: metrics, bootstrap intervals and config, as [`save_results`] writes;
        - `folder/samples/*.jsonl`: `question_id`, `image`, `prompt`, `answer`, `references`, `score`, `category`;
        - `folder/submissions/*`: input of the benchmark's own scorer, judge or server, if it has a writer.

        Args:
            model, processor: As [`generate_answers`] takes them.
            folder (`str` or `Path`, *optional*): Folder of the files; `None` writes nothing.
            name (`str`, *optional*, defaults to `"model"`): The model's folder or Hub id.
            config (`dict`, *optional*): Every argument that the numbers depend on.
            weights (`str`, *optional*):
                Name of these weights alone. Answers in `folder` under the same `weights` to the same questions are not
                generated again, so an interrupted run continues. `None` reuses nothing.

        Returns:
            `dict[str, float]`: name of the entry to the number that papers quote. An entry that is only exported has
            none. A part of MME has none, since its number is a sum.

        Raises:
            ValueError: No question of a benchmark was asked, or all its answers are empty. It leaves no file.
        """
        numbers = {}
        for entry in self.benchmarks:
            task = f"vqa_{entry.protocol}"
            path = None if folder is None else result_path(folder, dataset=entry.name, model=name, task=task)
            key = None if weights is None else _key(entry, weights)
            # The process that writes also reads; the others follow it.
            (answers,) = broadcast_object_list([_stored_answers(path, key, entry)])
            if answers is None:
                answers = _generate(model, processor, entry)
            check_answers(f"{entry.name} by {name!r}", [answers[i] for i in _asked(entry)])
            metric = entry.metric
            result = {} if metric is None else metric.score(entry.samples, answers, protocol=entry.protocol)
            self.results[entry.name] = result
            if path is not None:
                checksum = _write_samples(_samples_path(path), entry, answers, result)
                _write_submission(path, entry, answers, name)
                # The result comes last, since it says that the answers are complete.
                save_results(
                    folder,
                    dataset=entry.name,
                    model=name,
                    task=task,
                    metrics={part: value for part, value in result.items() if part not in _ABOUT},
                    config=(config or {}) | {"evaluation": entry.options} | _versions(),
                    details=_details(entry, result) | {"answers_key": key, "samples_checksum": checksum},
                )
            if metric is not None and metric.main_metric in result:
                numbers[entry.name] = result[metric.main_metric]
        return numbers

    def without_images(self) -> VQAEvaluator:
        """Return an evaluator that shows no image: its scores are what the questions alone give away."""
        return VQAEvaluator(
            [
                replace(
                    entry,
                    samples=[replace(sample, image=None) for sample in entry.samples],
                    # A blind model must be asked, or its score would be one of empty answers.
                    benchmark=replace(entry.benchmark, needs_image=False),
                )
                for entry in self.benchmarks
            ]
        )


def _asked(entry: LoadedBenchmark) -> list[int]:
    """Return the positions of the questions that a model is asked."""
    skips = entry.benchmark.needs_image
    return [i for i, sample in enumerate(entry.samples) if not (skips and sample.image is None)]


def _generate(model, processor, entry: LoadedBenchmark) -> list[str]:
    asked = _asked(entry)
    texts = generate_answers(
        model,
        processor,
        [entry.samples[i] for i in asked],
        batch_size=entry.batch_size,
        max_new_tokens=entry.max_new_tokens,
        description=entry.name,
    )
    answers = [""] * len(entry.samples)
    for i, text in zip(asked, texts, strict=True):
        answers[i] = text
    return answers


def _write_submission(path: Path, entry: LoadedBenchmark, answers: list[str], name: str) -> None:
    if entry.benchmark.write is not None:
        target = entry.benchmark.write_submission(path.parent / "submissions", path.stem, entry.samples, answers, name)
        if entry.metric is None:
            logger.info("%s is not scored here (no answers are known): %s", entry.name, target)


def _details(entry: LoadedBenchmark, result: dict) -> dict[str, Any]:
    about = {"benchmark": entry.benchmark.name, "protocol": entry.protocol, "n_samples": len(entry.samples)}
    about["main_metric"] = None if entry.metric is None else entry.metric.main_metric
    return about | {part: result[part] for part in ("confidence_intervals", "bootstrap") if part in result}


def _versions() -> dict[str, str]:
    return {"torch": torch.__version__, "transformers": transformers.__version__}


def _samples_path(path: Path) -> Path:
    return path.parent / "samples" / f"{path.stem}.jsonl"


def _write_samples(path: Path, entry: LoadedBenchmark, answers: list[str], result: dict) -> str:
    """Write one line per question, and return a checksum of the file."""
    scores = result.get("scores", [None] * len(answers))
    lines = [
        json.dumps(
            {
                "question_id": sample.question_id,
                "image": sample.image if isinstance(sample.image, str) else None,
                "prompt": sample.prompt,
                "answer": answer,
                "references": sample.answers,
                "score": score,
                "category": sample.category,
            }
        )
        for sample, answer, score in zip(entry.samples, answers, scores, strict=True)
    ]
    text = "".join(f"{line}\n" for line in lines)
    write_whole(path, text)
    return _checksum(text)


def _key(entry: LoadedBenchmark, weights: str) -> str:
    """Hash all that the answers depend on, except the arithmetic: weights, questions, images, longest answer."""
    questions = [
        (sample.question_id, sample.prompt, sample.image if isinstance(sample.image, str) else None)
        for sample in entry.samples
    ]
    options = {option: value for option, value in entry.options.items() if option not in ("protocol", "batch_size")}
    return _checksum(json.dumps([weights, entry.max_new_tokens, options, questions], sort_keys=True))


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _stored_answers(path: Path | None, key: str | None, entry: LoadedBenchmark) -> list[str] | None:
    """Read the answers that an earlier run with this key left beside its result; `None` if there are none."""
    if key is None or path is None or not path.is_file() or not _samples_path(path).is_file():
        return None
    record = read_json(path, allowed="It must be a result of an earlier run.", fix="Delete it.")
    text = _samples_path(path).read_text(encoding="utf-8")
    if (record.get("answers_key"), record.get("samples_checksum")) != (key, _checksum(text)):
        return None
    logger.info("%s: the answers of an earlier run are taken from %s", entry.name, _samples_path(path))
    return [json.loads(line)["answer"] for line in text.splitlines()]
