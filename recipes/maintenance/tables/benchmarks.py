"""VQA benchmarks: one row for each, from its declaration."""

from hf_clip_kd.evaluation.vqa.benchmarks import BENCHMARKS
from hf_clip_kd.evaluation.vqa.benchmarks.base import Benchmark

from .markdown import linked, render

HEADER = (
    "name",
    "benchmark",
    "questions about",
    "files",
    "scored by",
    "number",
    "who computes it so",
    "file for a server or judge",
)


def row(benchmark: Benchmark) -> tuple[str, ...]:
    """Return a benchmark's cells under `HEADER`."""
    return (
        f"`{benchmark.name}`",
        linked(benchmark.title, benchmark.paper),
        benchmark.measures,
        benchmark.files,
        benchmark.protocol,
        f"`{benchmark.metric.main_metric}`" if benchmark.metric else "–",
        benchmark.computed_by or "–",
        "yes" if benchmark.write else "no",
    )


def table() -> str:
    """Return the table."""
    return render(HEADER, map(row, BENCHMARKS.values()))
