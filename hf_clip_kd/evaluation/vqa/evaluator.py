"""Scores a vision-language model on benchmarks, and keeps every answer with the numbers."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate.utils import broadcast_object_list

from hf_clip_kd.evaluation.vqa.build import Benchmark
from hf_clip_kd.evaluation.vqa.generation import generate_answers
from hf_clip_kd.recipe_io.results import result_path, save_results, write_whole

logger = logging.getLogger(__name__)

_ENDINGS = {"llava": ".jsonl", "seedbench": ".jsonl", "mme": ""}
# What `compute` returns besides metrics.
_ABOUT = ("benchmark", "protocol", "n_samples", "scores", "confidence_intervals", "bootstrap")


class VQAEvaluator:
    """
    Measures a vision-language model: `evaluator(model, processor) -> {"gqa": 0.62, "pope": 0.86, ...}`.

    Made by [`build_vqa_evaluator`]. Every process of a distributed run must call it; they share the questions, and the main one
    gets a `folder` and writes.

    Args:
        benchmarks (`list[Benchmark]`): What to measure.
        writers (`dict[str, Callable]`): Benchmark to the function that writes its submission, if it has one.

    Attributes:
        results (`dict[str, dict]`):
            After a call: name of the entry to all that its metric returns, with the score of each sample.
    """

    def __init__(self, benchmarks: list[Benchmark], writers: dict[str, Callable[..., None]]):
        self.benchmarks, self.writers = benchmarks, writers
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
        Answers every question, scores the answers and writes, benchmark by benchmark:

        - `folder/NAME_MODEL_vqa_PROTOCOL.json`: metrics, bootstrap intervals and config, as [`save_results`] does;
        - `folder/samples/*.jsonl`: `question_id`, `image`, `prompt`, `answer`, `references`, `score`, `category`;
        - `folder/submissions/*`: what the benchmark's own scorer, judge or server takes, where there is a writer.

        Args:
            model, processor: As [`generate_answers`] takes them.
            folder (`str` or `Path`, *optional*): Where the files go; `None` writes nothing.
            name (`str`, *optional*, defaults to `"model"`): The model's folder or Hub id.
            config (`dict`, *optional*): Every argument that the numbers depend on.
            weights (`str`, *optional*):
                Tells these weights from all others. Answers that stand in `folder` under the same `weights`, to the
                same questions, are scored again and not generated again, so an interrupted run goes on. Without it
                nothing is reused.

        Returns:
            `dict[str, float]`: the number that papers quote, by name of the entry. Entries that are only exported
            have none, nor has a part of MME, whose number is a sum.
        """
        numbers = {}
        for one in self.benchmarks:
            task = f"vqa_{one.protocol}"
            path = None if folder is None else result_path(folder, dataset=one.name, model=name, task=task)
            key = None if weights is None else _key(one, weights)
            # The process that writes also reads; the others follow it.
            (answers,) = broadcast_object_list([_stored_answers(path, key, one)])
            if answers is None:
                answers = _generate(model, processor, one)
            result = {} if one.metric is None else one.metric.score(one.samples, answers, protocol=one.protocol)
            self.results[one.name] = result
            if path is not None:
                checksum = _write_samples(_samples_path(path), one, answers, result)
                self._write_submission(path, one, answers, name)
                # Last, since it says that the answers are whole.
                save_results(
                    folder,
                    dataset=one.name,
                    model=name,
                    task=task,
                    metrics={metric: value for metric, value in result.items() if metric not in _ABOUT},
                    config=(config or {}) | {"evaluation": one.options} | _versions(),
                    details=_details(one, result) | {"answers_key": key, "samples_checksum": checksum},
                )
            if one.metric is not None and one.metric.main_metric in result:
                numbers[one.name] = result[one.metric.main_metric]
        return numbers

    def without_images(self) -> VQAEvaluator:
        """The same questions about nothing to see: what is right then, the questions alone give away."""
        benchmarks = [
            replace(one, samples=[replace(sample, image=None) for sample in one.samples]) for one in self.benchmarks
        ]
        return VQAEvaluator(benchmarks, self.writers)

    def _write_submission(self, path: Path, one: Benchmark, answers: list[str], name: str) -> None:
        if one.benchmark in self.writers:
            target = path.parent / "submissions" / (path.stem + _ENDINGS.get(one.benchmark, ".json"))
            extra = (name,) if one.benchmark == "llava" else ()
            self.writers[one.benchmark](target, one.samples, answers, *extra)
            if one.metric is None:
                logger.info("%s is not scored here (no answers are known): %s", one.name, target)


def _generate(model, processor, one: Benchmark) -> list[str]:
    asked = list(range(len(one.samples)))
    if one.benchmark == "mmmu":
        # Those about several images have none here; the protocol gives them an empty answer, so a random letter.
        asked = [i for i in asked if one.samples[i].image is not None]
    texts = generate_answers(
        model,
        processor,
        [one.samples[i] for i in asked],
        batch_size=one.batch_size,
        max_new_tokens=one.max_new_tokens,
        description=one.name,
    )
    answers = [""] * len(one.samples)
    for i, text in zip(asked, texts, strict=True):
        answers[i] = text
    return answers


def _details(one: Benchmark, result: dict) -> dict[str, Any]:
    about = {"benchmark": one.benchmark, "protocol": one.protocol, "n_samples": len(one.samples)}
    about["main_metric"] = None if one.metric is None else one.metric.main_metric
    return about | {part: result[part] for part in ("confidence_intervals", "bootstrap") if part in result}


def _versions() -> dict[str, str]:
    return {"torch": torch.__version__, "transformers": transformers.__version__}


def _samples_path(path: Path) -> Path:
    return path.parent / "samples" / f"{path.stem}.jsonl"


def _write_samples(path: Path, one: Benchmark, answers: list[str], result: dict) -> str:
    """Returns a checksum of the file."""
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
        for sample, answer, score in zip(one.samples, answers, scores, strict=True)
    ]
    text = "".join(f"{line}\n" for line in lines)
    write_whole(path, text)
    return _checksum(text)


def _key(one: Benchmark, weights: str) -> str:
    """Changes with whatever answers depend on but for the arithmetic: weights, questions, images, longest answer."""
    questions = [
        (sample.question_id, sample.prompt, sample.image if isinstance(sample.image, str) else None)
        for sample in one.samples
    ]
    options = {option: value for option, value in one.options.items() if option not in ("protocol", "batch_size")}
    return _checksum(json.dumps([weights, one.max_new_tokens, options, questions], sort_keys=True))


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _stored_answers(path: Path | None, key: str | None, one: Benchmark) -> list[str] | None:
    """The answers that an earlier run with this key has left beside its result, or `None`."""
    if key is None or path is None or not path.is_file() or not _samples_path(path).is_file():
        return None
    record = json.loads(path.read_text(encoding="utf-8"))
    text = _samples_path(path).read_text(encoding="utf-8")
    if (record.get("answers_key"), record.get("samples_checksum")) != (key, _checksum(text)):
        return None
    logger.info("%s: the answers of an earlier run are taken from %s", one.name, _samples_path(path))
    return [json.loads(line)["answer"] for line in text.splitlines()]
