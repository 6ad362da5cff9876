"""Compositional benchmarks, a file for each: reader, and the declaration of it."""

from __future__ import annotations

from . import aro, shapes, sugarcrepe, winoground
from .base import CaptionBenchmark

COMPOSITIONAL: dict[str, CaptionBenchmark] = {
    benchmark.name: benchmark
    for benchmark in (shapes.BENCHMARK, sugarcrepe.BENCHMARK, winoground.BENCHMARK, *aro.BENCHMARKS)
}

__all__ = ["COMPOSITIONAL", "CaptionBenchmark"]
