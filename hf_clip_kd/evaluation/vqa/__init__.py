"""Visual question answering, offline and without a judge: read a benchmark's own files, score answers, export them.

    samples = READERS["gqa"]("testdev_balanced_questions.json", "images")
    answers = generate_answers(model, processor, samples)   # or one text for each sample from anywhere else
    bits = answer_bits(model, processor, samples)           # optional: how likely the accepted answers were
    result = METRICS["gqa"]().score(samples, answers, bits=bits, protocol="llava")
    WRITERS["gqa"]("submission.json", samples, answers)

Each benchmark is one file of `benchmarks/`. Every metric is an `evaluate.Metric`, and code that uses `evaluate` can
load it: `evaluate.load(metric_path("gqa"))`.
"""

from __future__ import annotations

from .benchmarks import BENCHMARKS, METRICS, READERS, WRITERS, Benchmark, metric_path
from .benchmarks.llava_questions import read_answers
from .benchmarks.normalize import normalize_m4c, normalize_vqav2
from .bootstrap import bootstrap_intervals
from .build import build_vqa_evaluator
from .evaluator import VQAEvaluator
from .files import OPTION_LETTER, SHORT_ANSWER, UNANSWERABLE, Sample
from .generation import generate_answers
from .inputs import question_picture
from .likelihood import Likelihood, answer_bits
from .metric import VQAMetric
from .summary import bits_of, is_bits, score_text, summary_row, summary_table

__all__ = [
    "BENCHMARKS",
    "METRICS",
    "OPTION_LETTER",
    "READERS",
    "SHORT_ANSWER",
    "UNANSWERABLE",
    "WRITERS",
    "Benchmark",
    "Likelihood",
    "Sample",
    "VQAEvaluator",
    "VQAMetric",
    "answer_bits",
    "bits_of",
    "bootstrap_intervals",
    "build_vqa_evaluator",
    "generate_answers",
    "is_bits",
    "metric_path",
    "normalize_m4c",
    "normalize_vqav2",
    "question_picture",
    "read_answers",
    "score_text",
    "summary_row",
    "summary_table",
]
