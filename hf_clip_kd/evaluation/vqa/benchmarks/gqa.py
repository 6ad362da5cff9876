"""GQA: compositional questions about photographs, made from scene graphs."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hf_clip_kd.evaluation.vqa.benchmarks.base import Benchmark
from hf_clip_kd.evaluation.vqa.bootstrap import means_by_category, weighted_mean
from hf_clip_kd.evaluation.vqa.files import (
    SHORT_ANSWER,
    Sample,
    Source,
    check_images,
    image_path,
    pair_answers,
    write_json,
)
from hf_clip_kd.evaluation.vqa.metric import VQAMetric, categories_of

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_gqa(text: str) -> str:
    """Normalise an answer as LLaVA submits it: lower case, no period at the end."""
    return text.rstrip(".").lower()


def _without_punctuation(text: str) -> str:
    return text.lower().translate(_NO_PUNCTUATION)


class GQA(VQAMetric):
    """
    Exact match ([GQA](https://huggingface.co/papers/1902.09506)), overall and by structural type of the question.

    `open` (type query) and `binary` (every other type) are split as in the official script.

    Protocols:
        llava: both in lower case and without periods at their ends. GQA's own answers are so, other files' may not be.
        lmms_eval: both in lower case and without any punctuation.
    """

    benchmark = "gqa"
    reference_fields = ("answers", "category")

    def judge(self, predictions, references, protocol, seed):
        answers = [reference["answers"][0] for reference in references]
        normalize = normalize_gqa if protocol == "llava" else _without_punctuation
        pairs = zip(predictions, answers, strict=True)
        scores = np.array([float(normalize(text) == normalize(answer.strip())) for text, answer in pairs])
        categories = categories_of(references)
        is_open = np.array([category == "query" for category in categories])
        is_binary = np.array([category not in ("query", "") for category in categories])
        by_category = means_by_category(scores, categories)

        def summary(weights):
            metrics = by_category(weights)
            for name, chosen in (("open", is_open), ("binary", is_binary)):
                if chosen.any():
                    metrics[name] = weighted_mean(scores[chosen], weights[chosen])
            return metrics

        return scores, summary


def read_gqa(questions: str | Path, image_folder: str | Path | None = None) -> list[Sample]:
    """
    Read GQA's `testdev_balanced_questions.json`.

    Args:
        questions (`str` or `Path`): `{question_id: {"question", "imageId", "answer", "types"}}`.
        image_folder (`str` or `Path`, *optional*): Folder with `IMAGE_ID.jpg`.

    Returns:
        `list[Sample]` in the order of the file. The category is the structural type; the prompt is the question and
        [`SHORT_ANSWER`].

    Raises:
        ValueError: if the file, a field or the first image is missing.
    """
    source = Source(
        questions, "It must be a GQA questions JSON.", "read_gqa('testdev_balanced_questions.json', 'images')"
    )
    samples = []
    for key, row in source.json(dict).items():
        where = f"question {key!r}"
        kinds = {"question": str, "imageId": str, "answer": str | None, "types": dict | None}
        question, image, answer, groups = source.fields(row, where, **kinds)
        answers = () if answer is None else (answer,)
        (kind,) = source.fields(groups or {}, where, structural=str | None)
        prompt = question + SHORT_ANSWER
        samples.append(Sample(key, image_path(image_folder, f"{image}.jpg"), prompt, answers, category=kind or ""))
    return check_images(samples, image_folder, source)


def write_gqa(path: str | Path, samples: Sequence[Sample], answers: Sequence[str]) -> None:
    """Write `[{"questionId", "prediction"}]` for GQA's `eval.py`, answers through [`normalize_gqa`]."""
    rows = [
        {"questionId": sample.question_id, "prediction": normalize_gqa(answer)}
        for sample, answer in pair_answers(samples, answers)
    ]
    write_json(path, rows)


BENCHMARK = Benchmark(
    "gqa",
    title="GQA",
    measures="compositional questions about photographs",
    paper="https://huggingface.co/papers/1902.09506",
    files="questions JSON, images",
    protocol="exact match",
    computed_by="GQA's script, LLaVA, lmms-eval",
    read=read_gqa,
    metric=GQA,
    write=write_gqa,
    any_case=True,
)
