"""Visual question answering, offline and without a judge: read a benchmark's own files, score answers, export them.

    samples = READERS["gqa"]("testdev_balanced_questions.json", "images")
    answers = generate_answers(model, processor, samples)   # or one text for each sample from anywhere else
    result = METRICS["gqa"]().score(samples, answers, protocol="llava")
    WRITERS["gqa"]("submission.json", samples, answers)

Every metric is an `evaluate.Metric`. In code that speaks `evaluate`: `evaluate.load(metric_path("gqa"))`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable

from .bootstrap import bootstrap_intervals
from .build import build_benchmark
from .evaluator import VQAEvaluator
from .generation import generate_answers
from .gqa import GQA
from .metric import VQAMetric
from .mme import MME
from .mmmu import MMMU
from .normalize import normalize_m4c, normalize_vqav2
from .pope import POPE
from .readers_choice import read_mmmu, read_scienceqa, read_seedbench
from .readers_open import read_gqa, read_mmvet, read_textvqa, read_vizwiz, read_vqav2
from .readers_yes_no import read_llava_questions, read_mme, read_pope
from .samples import OPTION_LETTER, SHORT_ANSWER, UNANSWERABLE, Sample
from .scienceqa import ScienceQA
from .seedbench import SEEDBench
from .shapes_vqa import ShapesVQA, read_shapes
from .submissions import (
    read_answers,
    write_answers,
    write_gqa,
    write_mme,
    write_mmmu,
    write_mmvet,
    write_seedbench,
    write_vizwiz,
    write_vqav2,
)
from .summary import summary_row, summary_table
from .textvqa import TextVQA
from .vizwiz import VizWiz
from .vqav2 import VQAv2

METRICS: dict[str, type[VQAMetric]] = {
    "vqav2": VQAv2,
    "gqa": GQA,
    "textvqa": TextVQA,
    "vizwiz": VizWiz,
    "pope": POPE,
    "mme": MME,
    "scienceqa": ScienceQA,
    "seedbench": SEEDBench,
    "mmmu": MMMU,
    "shapes": ShapesVQA,
}
READERS = {
    "vqav2": read_vqav2,
    "gqa": read_gqa,
    "textvqa": read_textvqa,
    "vizwiz": read_vizwiz,
    "pope": read_pope,
    "mme": read_mme,
    "scienceqa": read_scienceqa,
    "seedbench": read_seedbench,
    "mmmu": read_mmmu,
    "mmvet": read_mmvet,
    "shapes": read_shapes,
    "llava": read_llava_questions,
}
WRITERS = {
    "vqav2": write_vqav2,
    "gqa": write_gqa,
    "vizwiz": write_vizwiz,
    "mme": write_mme,
    "seedbench": write_seedbench,
    "mmmu": write_mmmu,
    "mmvet": write_mmvet,
    "llava": write_answers,
}


def metric_path(name: str) -> str:
    """
    The file of a metric, for `evaluate.load(metric_path("pope"))`.

    Raises:
        ValueError: if there is no such metric.
    """
    if name not in METRICS:
        raise ValueError(
            f"There is no VQA metric {name!r}. There are {list(METRICS)} (MM-Vet needs a judge and is only exported). "
            'Write e.g. `evaluate.load(metric_path("pope"))`.'
        )
    return inspect.getsourcefile(METRICS[name])


def build_vqa_evaluator(
    evaluation: dict[str, dict], load_shapes: Callable[..., Iterable[dict]] | None = None
) -> VQAEvaluator:
    """
    The benchmarks that a recipe asks for, read and complete before any model is loaded.

    Args:
        evaluation (`dict[str, dict]`):
            Name to what is measured: `{"gqa": {"questions": FILE, "image_folder": FOLDER}}`. The name is that of a
            reader in `READERS`; under another name, for a second setting, `benchmark` says which it is. The rest are
            arguments of the reader, and for each benchmark `protocol` (`"llava"` by default, or `"lmms_eval"`),
            `max_samples` (the first so many, for a trial), `batch_size` (8) and `max_new_tokens` (128; 1024 for
            ScienceQA, MMMU and MM-Vet, as in LLaVA; 16 for `shapes`). `shapes` takes `split`, `seed`, `image_size`.
        load_shapes (`Callable`, *optional*):
            `hf_clip_kd.data.load_shapes` or its like, which `shapes` needs.

    Returns:
        [`VQAEvaluator`] whose `benchmarks` stand in the order of `evaluation`.

    Raises:
        ValueError: if a benchmark or an argument is unknown or missing, or a file or an image is not there.
    """
    if not evaluation:
        raise ValueError(
            f"`evaluation={evaluation}` asks for nothing. At least one of {', '.join(READERS)} is needed. Write e.g. "
            "`evaluation: {shapes: {split: test}}`."
        )
    benchmarks = [build_benchmark(name, block, READERS, METRICS, load_shapes) for name, block in evaluation.items()]
    return VQAEvaluator(benchmarks, WRITERS)


__all__ = [
    "METRICS",
    "OPTION_LETTER",
    "READERS",
    "SHORT_ANSWER",
    "UNANSWERABLE",
    "WRITERS",
    "Sample",
    "VQAEvaluator",
    "VQAMetric",
    "bootstrap_intervals",
    "build_vqa_evaluator",
    "generate_answers",
    "metric_path",
    "normalize_m4c",
    "normalize_vqav2",
    "read_answers",
    "summary_row",
    "summary_table",
]
