"""Benchmarks of dual encoders beside classification and plain retrieval: one row for each, from its declaration."""

from hf_clip_kd.evaluation.compositional import COMPOSITIONAL, CaptionBenchmark
from hf_clip_kd.evaluation.xm3600 import PROTOCOLS

from .markdown import linked, paper, render

HEADER = ("dataset_name", "benchmark", "captions differ in", "files", "protocol", "main metric", "computed so by")
XM3600 = (
    "`xm3600`",
    paper("2205.12522", "Crossmodal-3600"),
    "language: 36 of them",
    "`annotations`: captions.jsonl; `image_folder`: images.tgz, unpacked",
    "recall in each language; " + "; ".join(f"`{name}`: {rule}" for name, rule in PROTOCOLS.items()),
    "`image_retrieval_recall@1`",
    "CLIP_benchmark, a language a run; `all_captions` as its other retrieval sets",
)


def row(benchmark: CaptionBenchmark) -> tuple[str, ...]:
    """Return a benchmark's cells under `HEADER`."""
    return (
        f"`{benchmark.name}`",
        linked(benchmark.title, benchmark.paper),
        benchmark.measures,
        benchmark.files,
        benchmark.protocol,
        f"`{benchmark.main_metric}`",
        benchmark.scored_so_by,
    )


def table() -> str:
    """Return the table."""
    return render(HEADER, [*map(row, COMPOSITIONAL.values()), XM3600])
