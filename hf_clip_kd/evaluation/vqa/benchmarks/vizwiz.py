"""VizWiz: questions of blind people about their own photographs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hf_clip_kd.evaluation.vqa.benchmarks.base import Benchmark
from hf_clip_kd.evaluation.vqa.benchmarks.normalize import normalize_m4c
from hf_clip_kd.evaluation.vqa.benchmarks.soft_accuracy import both_m4c, llava
from hf_clip_kd.evaluation.vqa.bootstrap import means_by_category
from hf_clip_kd.evaluation.vqa.files import (
    SHORT_ANSWER,
    UNANSWERABLE,
    Sample,
    Source,
    check_images,
    image_path,
    pair_answers,
    write_json,
)
from hf_clip_kd.evaluation.vqa.metric import VQAMetric, categories_of


class VizWiz(VQAMetric):
    """
    Soft accuracy against ten people ([VizWiz](https://huggingface.co/papers/1802.08218)), overall and by answer type.

    Only train and val have answers. A server scores test, see `write_vizwiz`.

    Protocols:
        llava: the prediction through the M4C processor, as LLaVA submits it, then the official VQA scorer.
        lmms_eval: both sides through the M4C processor.
    """

    benchmark = "vizwiz"
    reference_fields = ("answers", "category")

    def judge(self, predictions, references, protocol, seed):
        scorer = {"llava": llava, "lmms_eval": both_m4c}[protocol]
        pairs = zip(predictions, references, strict=True)
        scores = np.array([scorer(prediction, reference["answers"]) for prediction, reference in pairs])
        return scores, means_by_category(scores, categories_of(references))


def read_vizwiz(
    annotations: str | Path, image_folder: str | Path | None = None, protocol: str = "llava"
) -> list[Sample]:
    """
    Read VizWiz's `val.json` or `test.json`.

    Args:
        annotations (`str` or `Path`):
            `[{"image", "question", "answers": [{"answer"}], "answer_type"}]`. Test has neither of the last two.
        image_folder (`str` or `Path`, *optional*):
            Folder with the images.
        protocol (`str`, *optional*, defaults to `"llava"`):
            `"lmms_eval"` capitalises the question.

    Returns:
        `list[Sample]` in the order of the file, with the image's name as `question_id` and the answer type as
        category. The prompt is the question, [`UNANSWERABLE`] and [`SHORT_ANSWER`].

    Raises:
        ValueError: if the file, a field or the first image is missing.
    """
    source = Source(annotations, "It must be a VizWiz VQA annotations JSON.", "read_vizwiz('val.json', 'val')")
    samples = []
    for i, row in enumerate(source.json(list)):
        where = f"question {i}"
        kinds = {"image": str, "question": str, "answers": list | None, "answer_type": str | None}
        image, question, people, kind = source.fields(row, where, **kinds)
        question = question.capitalize() if protocol == "lmms_eval" else question
        prompt = question + UNANSWERABLE + SHORT_ANSWER
        answers = source.people(people or [], where)
        samples.append(Sample(image, image_path(image_folder, image), prompt, answers, category=kind or ""))
    return check_images(samples, image_folder, source)


def write_vizwiz(path: str | Path, samples: Sequence[Sample], answers: Sequence[str]) -> None:
    """Write `[{"image", "answer"}]` for the VizWiz server, answers through [`normalize_m4c`]."""
    rows = [
        {"image": Path(sample.picture).name, "answer": normalize_m4c(answer)}
        for sample, answer in pair_answers(samples, answers)
    ]
    write_json(path, rows)


BENCHMARK = Benchmark(
    "vizwiz",
    title="VizWiz",
    measures="questions of blind people about their own photographs",
    paper="https://huggingface.co/papers/1802.08218",
    files="annotations JSON, images",
    protocol="soft accuracy against ten people",
    computed_by="VizWiz's server, LLaVA, lmms-eval",
    read=read_vizwiz,
    metric=VizWiz,
    write=write_vizwiz,
    any_case=True,
)
