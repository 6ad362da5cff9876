"""OCRBench: words, documents, forms and formulas to read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hf_clip_kd.evaluation.vqa.benchmarks.base import Benchmark
from hf_clip_kd.evaluation.vqa.bootstrap import means_by_category, weighted_mean
from hf_clip_kd.evaluation.vqa.files import Sample, Source, check_images, image_path
from hf_clip_kd.evaluation.vqa.metric import VQAMetric, categories_of

_FORMULAS = "Handwritten Mathematical Expression Recognition"
RECOGNITION = (
    "Regular Text Recognition",
    "Irregular Text Recognition",
    "Artistic Text Recognition",
    "Handwriting Recognition",
    "Digit String Recognition",
    "Non-Semantic Text Recognition",
)
# Full-width signs of Chinese and Japanese to ASCII, and the wide space to a space.
_NARROW = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}


def contains(text: str, answer: str, formula: bool) -> bool:
    """
    Tell if a text contains an answer.

    Line breaks are spaces, and the case does not count. In a formula it does, and spaces do not.
    """
    text, answer = (part.strip().replace("\n", " ") for part in (text, answer))
    if formula:
        return answer.replace(" ", "") in text.replace(" ", "")
    return answer.lower() in text.lower()


class OCRBench(VQAMetric):
    """
    Answers that contain an accepted one ([OCRBench](https://huggingface.co/papers/2305.07895)), overall and by type.

    Papers quote the number of right answers of the 1,000, which is 1000 times `accuracy`. `recognition` is the
    accuracy of the six types that read words.

    Protocols:
        llava: see [`contains`] (the authors' script).
        lmms_eval: the same after full-width signs became ASCII, except in formulas.
    """

    benchmark = "ocrbench"
    reference_fields = ("answers", "category")

    def judge(self, predictions, references, protocol, seed):
        scores = []
        for text, reference in zip(predictions, references, strict=True):
            formula, answers = reference["category"] == _FORMULAS, reference["answers"]
            if protocol == "lmms_eval" and not formula:
                text, answers = text.translate(_NARROW), [answer.translate(_NARROW) for answer in answers]
            scores.append(float(any(contains(text, answer, formula) for answer in answers)))
        scores = np.array(scores)
        categories = categories_of(references)
        words, by_type = np.isin(categories, RECOGNITION), means_by_category(scores, categories)

        def summary(weights):
            found = {"recognition": weighted_mean(scores[words], weights[words])} if words.any() else {}
            return by_type(weights) | found

        return scores, summary


def read_ocrbench(questions: str | Path, image_folder: str | Path | None = None) -> list[Sample]:
    """
    Read OCRBench's `OCRBench.json`.

    Args:
        questions (`str` or `Path`):
            `[{"dataset_name", "id", "image_path", "question", "answers", "type"}]`; `answers` is a text or a list.
        image_folder (`str` or `Path`, *optional*):
            `OCRBench_Images`.

    Returns:
        `list[Sample]` in the order of the file. The `question_id` is `DATASET/ID`, the prompt the bare question, and
        the category the type.

    Raises:
        ValueError: if the file, a field or the first image is missing.
    """
    call = "read_ocrbench('OCRBench/OCRBench.json', 'OCRBench_Images')"
    source = Source(questions, "It must be OCRBench's JSON.", call)
    samples = []
    for i, row in enumerate(source.json(list)):
        where = f"question {i}"
        kinds = {"dataset_name": str, "id": int | str, "image_path": str, "question": str, "type": str}
        dataset, key, image, question, kind = source.fields(row, where, **kinds)
        (answers,) = source.fields(row, where, answers=str | list)
        if isinstance(answers, list):
            (answers,) = source.fields(row, where, answers=list[str])
        else:
            answers = [answers]
        path = image_path(image_folder, image)
        samples.append(Sample(f"{dataset}/{key}", path, question, tuple(answers), category=kind))
    return check_images(samples, image_folder, source)


BENCHMARK = Benchmark(
    "ocrbench",
    title="OCRBench",
    measures="words, documents, forms and formulas to read",
    paper="https://huggingface.co/papers/2305.07895",
    files="OCRBench.json, images",
    protocol="an accepted answer inside the text; 1000 times the share is what papers quote",
    computed_by="the authors, lmms-eval, VLMEvalKit",
    read=read_ocrbench,
    metric=OCRBench,
)
