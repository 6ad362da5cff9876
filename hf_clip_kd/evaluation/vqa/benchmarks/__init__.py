"""Benchmarks, one file each: reader, metric, writer, prompt ending and answer length, and the declaration of them."""

from __future__ import annotations

import inspect

from . import (
    ai2d,
    blink,
    chartqa,
    cvbench,
    docvqa,
    gqa,
    infovqa,
    llava_questions,
    mme,
    mmmu,
    mmstar,
    mmvet,
    mmvp,
    naturalbench,
    ocrbench,
    pope,
    questions,
    realworldqa,
    scienceqa,
    seedbench,
    shapes,
    textvqa,
    vizwiz,
    vqav2,
)
from .base import Benchmark

# Messages and tables keep this order.
_FILES = (
    vqav2,
    gqa,
    textvqa,
    vizwiz,
    pope,
    mme,
    scienceqa,
    seedbench,
    mmmu,
    mmvet,
    mmvp,
    cvbench,
    blink,
    naturalbench,
    realworldqa,
    mmstar,
    docvqa,
    infovqa,
    chartqa,
    ocrbench,
    ai2d,
    shapes,
    questions,
    llava_questions,
)
BENCHMARKS: dict[str, Benchmark] = {file.BENCHMARK.name: file.BENCHMARK for file in _FILES}
READERS = {name: benchmark.read for name, benchmark in BENCHMARKS.items()}
METRICS = {name: benchmark.metric for name, benchmark in BENCHMARKS.items() if benchmark.metric is not None}
WRITERS = {name: benchmark.write for name, benchmark in BENCHMARKS.items() if benchmark.write is not None}


def metric_path(name: str) -> str:
    """
    Return the file of a metric, for `evaluate.load(metric_path("pope"))`.

    Raises:
        ValueError: if there is no such metric.
    """
    if name not in METRICS:
        raise ValueError(
            f"There is no VQA metric {name!r}. There are {list(METRICS)} (a benchmark that needs a judge has none). "
            'Write e.g. `evaluate.load(metric_path("pope"))`.'
        )
    return inspect.getsourcefile(METRICS[name])


__all__ = ["BENCHMARKS", "METRICS", "READERS", "WRITERS", "Benchmark", "metric_path"]
