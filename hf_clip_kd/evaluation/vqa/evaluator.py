"""Evaluator that asks a vision-language model the questions of benchmarks, and keeps every answer with the numbers."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate.utils import broadcast_object_list

from ...recipe_io.results import check_answers, result_path, save_results
from .benchmarks import Benchmark
from .files import Sample
from .generation import generate_answers
from .likelihood import Likelihood, answer_bits
from .metric import VQAMetric
from .stored import answers_key, read_stored, write_samples

logger = logging.getLogger(__name__)

# These keys of a metric's result are no metrics.
_ABOUT = ("benchmark", "protocol", "n_samples", "scores", "bits", "likelihood", "confidence_intervals", "bootstrap")


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
        likelihood ([`Likelihood`], *optional*): Way to measure the likelihood of the answers; `None` leaves it out.
    """

    name: str
    benchmark: Benchmark
    samples: list[Sample]
    protocol: str
    metric: VQAMetric | None
    batch_size: int
    max_new_tokens: int
    options: dict[str, Any]
    likelihood: Likelihood | None = None


class VQAEvaluator:
    """
    Evaluator of a vision-language model: `evaluator(model, processor) -> {"gqa": 0.62, "pope": 0.86, ...}`.

    [`build_vqa_evaluator`] makes it. Every process of a distributed run must call it. They share the questions, and
    the main process gets a `folder` and writes.

    Args:
        benchmarks (`list[LoadedBenchmark]`): Benchmarks to ask.

    Attributes:
        results (`dict[str, dict]`):
            Name of the entry to the whole result of its metric, with the score and the bits of each sample. Filled
            by a call.
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
        learning: bool = False,
    ) -> dict[str, float]:
        """
        Answer every question, score the answers and write, benchmark by benchmark.

        - `folder/NAME_MODEL_vqa_PROTOCOL.json`: metrics, bootstrap intervals and config, as [`save_results`] writes;
        - `folder/samples/*.jsonl`: `question_id`, `image`, `prompt`, `answer`, `references`, `choices`, `score`,
          `bits`, `category`, `unit` (pair or group that is drawn as one);
        - `folder/submissions/*`: input of the benchmark's own scorer, judge or server, if it has a writer.

        Args:
            model, processor: As [`generate_answers`] takes them.
            folder (`str` or `Path`, *optional*): Folder of the files; `None` writes nothing.
            name (`str`, *optional*, defaults to `"model"`): The model's folder or Hub id.
            config (`dict`, *optional*): Every argument that the numbers depend on.
            weights (`str`, *optional*):
                Name of these weights alone. Answers in `folder` under the same `weights` to the same questions are not
                generated again, so an interrupted run continues. Nor are their bits computed again, if they are there.
                `None` reuses nothing.
            learning (`bool`, *optional*, defaults to `False`):
                `True` for a model in the middle of its training. All its answers may be empty, which scores 0.

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
            key = None if weights is None else answers_key(entry, weights)
            # The process that writes also reads; the others follow it.
            (stored,) = broadcast_object_list([read_stored(path, key, entry)])
            answers = _generate(model, processor, entry) if stored.answers is None else stored.answers
            if not learning:
                check_answers(f"{entry.name} by {name!r}", [answers[i] for i in _asked(entry)])
            metric = entry.metric
            result = {}
            if metric is not None:
                bits = stored.bits
                if bits is None and entry.likelihood is not None:
                    bits = _bits(model, processor, entry)
                result = metric.score(entry.samples, answers, protocol=entry.protocol, bits=bits)
                if bits is not None:
                    result |= {"bits": bits, "likelihood": asdict(entry.likelihood) | _about_bits(bits)}
            self.results[entry.name] = result
            if path is not None:
                checksum = write_samples(path, entry, answers, result)
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

    @property
    def points(self) -> set[str]:
        """Names of the entries whose number is a sum of points, such as MME's, and no share."""
        scored = [entry for entry in self.benchmarks if entry.metric is not None]
        return {entry.name for entry in scored if entry.metric.max_score != 1}

    def without_images(self) -> VQAEvaluator:
        """
        Return an evaluator that shows no image: its scores are what the questions alone give away.

        It asks the same questions.
        """
        return VQAEvaluator(
            [
                replace(
                    entry,
                    samples=[replace(sample, image=None, image_name=sample.picture) for sample in entry.samples],
                )
                for entry in self.benchmarks
            ]
        )


def _asked(entry: LoadedBenchmark) -> list[int]:
    """Return the positions of the questions that a model is asked."""
    skips = entry.benchmark.needs_image
    # A picture that is not shown to a blind model has a name.
    lacks = [sample.image is None and sample.image_name is None for sample in entry.samples]
    return [i for i, nothing in enumerate(lacks) if not (skips and nothing)]


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
    return _placed(entry, asked, texts, "")


def _bits(model, processor, entry: LoadedBenchmark) -> list[float | None]:
    asked = _asked(entry)
    found = answer_bits(
        model,
        processor,
        [entry.samples[i] for i in asked],
        likelihood=entry.likelihood,
        any_case=entry.benchmark.any_case,
        batch_size=entry.batch_size,
        description=f"{entry.name}, likelihood",
    )
    return _placed(entry, asked, found, None)


def _placed(entry: LoadedBenchmark, asked: list[int], found: list, nothing: Any) -> list:
    """Return what was found for the questions asked, at their positions, and `nothing` for the others."""
    placed = [nothing] * len(entry.samples)
    for i, value in zip(asked, found, strict=True):
        placed[i] = value
    return placed


def _about_bits(bits: list[float | None]) -> dict[str, Any]:
    """Say what the bits are of: the answer with its end token, and the questions that have them."""
    return {"end_token": True, "n_samples": len(bits) - bits.count(None), "n_left_out": bits.count(None)}


def _write_submission(path: Path, entry: LoadedBenchmark, answers: list[str], name: str) -> None:
    if entry.benchmark.write is not None:
        target = entry.benchmark.write_submission(path.parent / "submissions", path.stem, entry.samples, answers, name)
        if entry.metric is None:
            logger.info("%s is not scored here (no answers are known): %s", entry.name, target)


def _details(entry: LoadedBenchmark, result: dict) -> dict[str, Any]:
    about = {"benchmark": entry.benchmark.name, "protocol": entry.protocol, "n_samples": len(entry.samples)}
    about["main_metric"] = None if entry.metric is None else entry.metric.main_metric
    parts = ("likelihood", "confidence_intervals", "bootstrap")
    return about | {part: result[part] for part in parts if part in result}


def _versions() -> dict[str, str]:
    return {"torch": torch.__version__, "transformers": transformers.__version__}
