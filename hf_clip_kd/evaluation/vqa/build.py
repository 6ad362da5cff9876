"""From the `evaluation` of a recipe to benchmarks whose questions are read and whose images are there."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hf_clip_kd.evaluation.vqa.generation import MAX_NEW_TOKENS, MAX_NEW_TOKENS_LONG
from hf_clip_kd.evaluation.vqa.metric import VQAMetric
from hf_clip_kd.evaluation.vqa.samples import Sample

_OPTIONS = ("benchmark", "protocol", "max_samples", "batch_size", "max_new_tokens")
_PROTOCOLS = ("llava", "lmms_eval")
_SHAPES_OPTIONS = ("split", "seed", "image_size")
_EXAMPLE = "`evaluation: {gqa: {questions: testdev_balanced_questions.json, image_folder: images}}`"
_LENGTHS = {"scienceqa": MAX_NEW_TOKENS_LONG, "mmmu": MAX_NEW_TOKENS_LONG, "mmvet": MAX_NEW_TOKENS_LONG, "shapes": 16}


@dataclass(frozen=True)
class Benchmark:
    """
    One entry of a recipe's `evaluation`, read.

    Attributes:
        name (`str`): Its key there.
        benchmark (`str`): Key of its reader.
        samples (`list[Sample]`): The questions; their image files exist.
        protocol (`str`): How they are asked and scored.
        metric ([`VQAMetric`], *optional*): `None` if they can only be exported: no metric, or no answers.
        batch_size (`int`): Questions per call of `generate`.
        max_new_tokens (`int`): Longest answer.
        options (`dict`): What the recipe says.
    """

    name: str
    benchmark: str
    samples: list[Sample]
    protocol: str
    metric: VQAMetric | None
    batch_size: int
    max_new_tokens: int
    options: dict[str, Any]


def build_benchmark(
    name: str,
    options: Any,
    readers: dict[str, Callable[..., list[Sample]]],
    metrics: dict[str, type[VQAMetric]],
    load_shapes: Callable[..., Iterable[dict]] | None,
) -> Benchmark:
    """
    Reads what one entry of `evaluation` names, see [`build_vqa_evaluator`].

    Raises:
        ValueError: if the benchmark or an argument is unknown, or a file or an image is missing.
    """
    where = f"`evaluation`, {name!r}"
    if not isinstance(options, dict):
        raise ValueError(
            f"{where}: {options!r} names no data. It must be a mapping of arguments. Write e.g. {_EXAMPLE}."
        )
    given = dict(options)
    benchmark = given.pop("benchmark", name)
    if benchmark not in readers:
        raise ValueError(
            f"{where}: {benchmark!r} is no benchmark. There are {', '.join(readers)}. Use one of them as the name, or "
            f"say which it is: `{name}: {{benchmark: gqa, ...}}`."
        )
    allowed = _reader_arguments(benchmark, readers)
    _check_names(where, benchmark, given, [*allowed, *_OPTIONS])
    protocol = _one_of(where, "protocol", given.pop("protocol", _PROTOCOLS[0]), _PROTOCOLS)
    max_samples = _positive(where, "max_samples", given.pop("max_samples", None), optional=True)
    batch_size = _positive(where, "batch_size", given.pop("batch_size", 8))
    length = _positive(where, "max_new_tokens", given.pop("max_new_tokens", _LENGTHS.get(benchmark, MAX_NEW_TOKENS)))
    try:
        if benchmark == "shapes":
            # Its length is an argument, because `shapes` is made and not read.
            samples = readers[benchmark](_shapes(load_shapes)(size=max_samples, vqa=True, **{"split": "test"} | given))
        else:
            samples = _read(readers[benchmark], given, protocol)[:max_samples]
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    _check_images(where, samples)
    scored = benchmark in metrics and any(sample.answers for sample in samples)
    metric = metrics[benchmark]() if scored else None
    if metric is not None:
        _check_references(where, metric, samples, protocol)
    return Benchmark(name, benchmark, samples, protocol, metric, batch_size, length, options)


def _reader_arguments(benchmark: str, readers: dict) -> dict[str, bool]:
    """Arguments that a recipe may give to the reader, and whether it must; the protocol is an option of every entry."""
    if benchmark == "shapes":
        return dict.fromkeys(_SHAPES_OPTIONS, False)
    parameters = inspect.signature(readers[benchmark]).parameters.values()
    return {one.name: one.default is one.empty for one in parameters if one.name != "protocol"}


def _check_names(where: str, benchmark: str, given: dict, allowed: list[str]) -> None:
    for option in given:
        if option not in allowed:
            close = get_close_matches(option, allowed, n=1)
            hint = f"Did you mean `{close[0]}`?" if close else "Delete it."
            raise ValueError(
                f"{where}: {option!r} is no argument of the benchmark {benchmark!r}. The arguments are "
                f"{', '.join(allowed)}. {hint}"
            )


def _read(reader: Callable[..., list[Sample]], given: dict, protocol: str) -> list[Sample]:
    parameters = inspect.signature(reader).parameters
    missing = [one for one in parameters.values() if one.default is one.empty and one.name not in given]
    if missing:
        raise ValueError(
            f"`{missing[0].name}` has no value. {reader.__name__} reads {', '.join(parameters)}. Add "
            f"`{missing[0].name}: PATH`."
        )
    for argument, value in given.items():
        if not isinstance(value, str):
            raise ValueError(
                f"`{argument}: {value!r}` is no path. Arguments of {reader.__name__} are text, most of them paths. "
                f"Write `{argument}: PATH`, or leave it out."
            )
    return reader(**given, **({"protocol": protocol} if "protocol" in parameters else {}))


def _shapes(load_shapes: Callable | None) -> Callable:
    if load_shapes is None:
        raise ValueError(
            "the questions of `shapes` are made by a function that was not handed in. It must be `load_shapes` or its "
            "like. Pass it: `build_vqa_evaluator(evaluation, load_shapes=hf_clip_kd.data.load_shapes)`."
        )
    return load_shapes


def _check_images(where: str, samples: list[Sample]) -> None:
    """Readers look for the first image; after hours of answering it is too late for the others."""
    files = dict.fromkeys(sample.image for sample in samples if isinstance(sample.image, str))
    missing = [file for file in files if not Path(file).is_file()]
    if missing:
        raise ValueError(
            f"{where}: {len(missing)} of {len(files)} images are missing, the first is {missing[0]}. Every question "
            "needs its image. Complete the folder, or pass the right `image_folder`."
        )


def _check_references(where: str, metric: VQAMetric, samples: list[Sample], protocol: str) -> None:
    """Scores empty answers: whatever the metric has against the questions, it says now."""
    try:
        metric.score(samples, [""] * len(samples), protocol=protocol, n_resamples=0)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _positive(where: str, name: str, value: Any, optional: bool = False) -> int | None:
    if (value is None and optional) or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ValueError(f"{where}: `{name}: {value!r}` is no number of things. It must be 1 or more. Write `{name}: 8`.")


def _one_of(where: str, name: str, value: Any, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(
            f"{where}: `{name}: {value!r}` does not exist. There are {', '.join(allowed)}. Write `{name}: {allowed[0]}`."
        )
    return value
