"""Visual question answering, offline and without a judge: read a benchmark's own files, score answers, export them.

    samples = READERS["gqa"]("testdev_balanced_questions.json", "images")
    answers = [...]                                     # one text for each sample, from any model
    result = METRICS["gqa"]().score(samples, answers, protocol="llava")
    WRITERS["gqa"]("submission.json", samples, answers)

Every metric is an `evaluate.Metric`. In code that speaks `evaluate`: `evaluate.load(metric_path("gqa"))`.
"""

from __future__ import annotations

import inspect

from .bootstrap import bootstrap_intervals
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


__all__ = [
    "METRICS",
    "OPTION_LETTER",
    "READERS",
    "SHORT_ANSWER",
    "UNANSWERABLE",
    "WRITERS",
    "Sample",
    "VQAMetric",
    "bootstrap_intervals",
    "metric_path",
    "normalize_m4c",
    "normalize_vqav2",
    "read_answers",
]
