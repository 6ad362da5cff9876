"""Builder of an evaluator from a recipe's `evaluation`, with the questions read and the images checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from .benchmarks import BENCHMARKS, METRICS, Benchmark
from .evaluator import LoadedBenchmark, VQAEvaluator
from .files import Sample
from .likelihood import Likelihood
from .metric import VQAMetric

_OPTIONS = ("benchmark", "protocol", "max_samples", "batch_size", "max_new_tokens", "likelihood")
_PROTOCOLS = ("llava", "lmms_eval")
_EXAMPLE = "`evaluation: {gqa: {questions: testdev_balanced_questions.json, image_folder: images}}`"


def build_vqa_evaluator(
    evaluation: dict[str, dict], load_shapes: Callable[..., Iterable[dict]] | None = None
) -> VQAEvaluator:
    """
    Read the benchmarks that a recipe asks for, and check them before any model is loaded.

    Args:
        evaluation (`dict[str, dict]`):
            Name to arguments: `{"gqa": {"questions": FILE, "image_folder": FOLDER}}`. The name is a key of
            `BENCHMARKS`. Under another name, for a second setting, `benchmark` is that key. The arguments are those of
            the benchmark's reader, and for each benchmark `protocol` (`"llava"` by default, or `"lmms_eval"`),
            `max_samples` (number of questions, from the first), `batch_size` (8), `max_new_tokens` (by default the
            length that the benchmark declares) and `likelihood`. That is `false`, or the fields of [`Likelihood`]; by
            default it is measured if the benchmark's answers are short. `shapes` takes `split`, `seed`, `image_size`.
        load_shapes (`Callable`, *optional*):
            `hf_clip_kd.data.load_shapes` or its like, which `shapes` needs.

    Returns:
        [`VQAEvaluator`] with `benchmarks` in the order of `evaluation`.

    Raises:
        ValueError: if a benchmark or an argument is unknown or missing, or a file or an image does not exist.
    """
    if not evaluation:
        raise ValueError(
            f"`evaluation={evaluation}` asks for nothing. At least one of {', '.join(BENCHMARKS)} is needed. Write "
            "e.g. `evaluation: {shapes: {split: test}}`."
        )
    return VQAEvaluator([_load(name, options, load_shapes) for name, options in evaluation.items()])


def _load(name: str, options: Any, load_shapes: Callable[..., Iterable[dict]] | None) -> LoadedBenchmark:
    where = f"`evaluation`, {name!r}"
    if not isinstance(options, dict):
        raise ValueError(
            f"{where}: {options!r} names no data. It must be a mapping of arguments. Write e.g. {_EXAMPLE}."
        )
    given = dict(options)
    key = given.pop("benchmark", name)
    if key not in BENCHMARKS:
        raise ValueError(
            f"{where}: {key!r} is no benchmark. There are {', '.join(BENCHMARKS)}. Use one of them as the name, or "
            f"add it: `{name}: {{benchmark: gqa, ...}}`."
        )
    benchmark = BENCHMARKS[key]
    _check_names(where, key, given, [*benchmark.arguments(), *_OPTIONS])
    protocol = _member(where, "protocol", given.pop("protocol", _PROTOCOLS[0]), _PROTOCOLS)
    max_samples = _positive(where, "max_samples", given.pop("max_samples", None), optional=True)
    batch_size = _positive(where, "batch_size", given.pop("batch_size", 8))
    length = _positive(where, "max_new_tokens", given.pop("max_new_tokens", benchmark.max_new_tokens))
    likelihood = _likelihood(where, benchmark, given.pop("likelihood", benchmark.short_answers))
    try:
        samples = benchmark.load(given, protocol=protocol, max_samples=max_samples, load_shapes=load_shapes)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    _check_images(where, samples)
    scored = key in METRICS and any(sample.answers for sample in samples)
    metric = METRICS[key]() if scored else None
    if metric is not None:
        _check_references(where, metric, samples, protocol)
    return LoadedBenchmark(name, benchmark, samples, protocol, metric, batch_size, length, options, likelihood)


def _likelihood(where: str, benchmark: Benchmark, value: Any) -> Likelihood | None:
    if value is False:
        return None
    if not benchmark.short_answers:
        raise ValueError(
            f"{where}: `likelihood: {value!r}` asks for the likelihood of free texts. It must be false, since only "
            "short answers have a likelihood that says something. Leave it out."
        )
    names = [part.name for part in fields(Likelihood)]
    options = {} if value is True else value
    if not isinstance(options, dict) or not set(options) <= set(names):
        raise ValueError(
            f"{where}: `likelihood: {value!r}` is no way to measure it. It must be true, false or a mapping with "
            f"{' and '.join(names)}. Write e.g. `likelihood: {{answers: best, length: sum}}`."
        )
    try:
        return Likelihood(**options)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _check_names(where: str, benchmark: str, given: dict, allowed: list[str]) -> None:
    for option in given:
        if option not in allowed:
            close = get_close_matches(option, allowed, n=1)
            hint = f"Did you mean `{close[0]}`?" if close else "Delete it."
            raise ValueError(
                f"{where}: {option!r} is no argument of the benchmark {benchmark!r}. The arguments are "
                f"{', '.join(allowed)}. {hint}"
            )


def _check_images(where: str, samples: list[Sample]) -> None:
    """Look for every image, since readers look only for the first. After hours of answering it is too late."""
    files = dict.fromkeys(sample.image for sample in samples if isinstance(sample.image, str))
    missing = [file for file in files if not Path(file).is_file()]
    if missing:
        raise ValueError(
            f"{where}: {len(missing)} of {len(files)} images are missing, the first is {missing[0]}. Every question "
            "needs its image. Complete the folder, or pass the right `image_folder`."
        )


def _check_references(where: str, metric: VQAMetric, samples: list[Sample], protocol: str) -> None:
    """Score empty answers, so that the metric rejects wrong questions now."""
    try:
        metric.score(samples, [""] * len(samples), protocol=protocol, n_resamples=0)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _positive(where: str, name: str, value: Any, optional: bool = False) -> int | None:
    if (value is None and optional) or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ValueError(f"{where}: `{name}: {value!r}` is no number of things. It must be 1 or more. Write `{name}: 8`.")


def _member(where: str, name: str, value: Any, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(
            f"{where}: `{name}: {value!r}` does not exist. There are {', '.join(allowed)}. "
            f"Write `{name}: {allowed[0]}`."
        )
    return value
