"""TextVQA: questions about text in photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hf_clip_kd.evaluation.vqa.benchmarks.base import Benchmark
from hf_clip_kd.evaluation.vqa.benchmarks.soft_accuracy import both_m4c
from hf_clip_kd.evaluation.vqa.bootstrap import means_by_category
from hf_clip_kd.evaluation.vqa.files import SHORT_ANSWER, Sample, Source, check_images, image_path
from hf_clip_kd.evaluation.vqa.metric import VQAMetric


class TextVQA(VQAMetric):
    """
    Soft accuracy against ten people ([TextVQA](https://huggingface.co/papers/1904.08920)).

    Both sides go through the M4C processor. The protocols llava and lmms_eval score alike and ask differently: LLaVA
    puts OCR tokens into the prompt, lmms-eval does not (`read_textvqa(..., ocr=...)`). The tokens move the score far
    more than any normalisation.
    """

    benchmark = "textvqa"

    def judge(self, predictions, references, protocol, seed):
        pairs = zip(predictions, references, strict=True)
        scores = np.array([both_m4c(prediction, reference["answers"]) for prediction, reference in pairs])
        return scores, means_by_category(scores, [""] * len(scores))


def read_textvqa(
    annotations: str | Path, image_folder: str | Path | None = None, ocr: str | Path | None = None
) -> list[Sample]:
    """
    Read TextVQA's `TextVQA_0.5.1_val.json`.

    Args:
        annotations (`str` or `Path`):
            `{"data": [{"image_id", "question", "answers"}]}`. Test splits have no answers.
        image_folder (`str` or `Path`, *optional*):
            Folder with `IMAGE_ID.jpg`.
        ocr (`str` or `Path`, *optional*):
            `TextVQA_Rosetta_OCR_v0.2_val.json`: `{"data": [{"image_id", "ocr_tokens"}]}`. With it the prompt is
            LLaVA's and has the tokens, without it lmms-eval's. Scores of the two do not compare.

    Returns:
        `list[Sample]` in the order of the file, with the image's id as `question_id`, as in LLaVA. The prompt is the
        capitalised question, `Reference OCR token: t1, t2` on a line of its own, and [`SHORT_ANSWER`].

    Raises:
        ValueError: if a file, a field or the first image is missing.
    """
    call = "read_textvqa('TextVQA_0.5.1_val.json', 'train_images', ocr='TextVQA_Rosetta_OCR_v0.2_val.json')"
    source = Source(annotations, "It must be a TextVQA 0.5.1 JSON.", call)
    tokens = {}
    if ocr is not None:
        other = Source(ocr, "It must be the Rosetta OCR JSON of the same split.", call)
        for i, row in enumerate(other.fields(other.json(dict), "the file", data=list)[0]):
            image, words = other.fields(row, f"row {i}", image_id=str, ocr_tokens=list[str])
            if tokens.setdefault(image, words) != words:
                raise other.error(f"it has other tokens of image {image!r} than a row above", f"row {i}")
    samples = []
    for i, row in enumerate(source.fields(source.json(dict), "the file", data=list)[0]):
        where = f"question {i}"
        image, question, people = source.fields(row, where, image_id=str, question=str, answers=list | None)
        prompt = question.capitalize()
        if ocr is not None:
            if image not in tokens:
                raise other.error(f"it has no tokens of image {image!r} of {annotations}")
            prompt += f"\nReference OCR token: {', '.join(tokens[image])}"
        answers = source.people(people or [], where)
        samples.append(Sample(image, image_path(image_folder, f"{image}.jpg"), prompt + SHORT_ANSWER, answers))
    return check_images(samples, image_folder, source)


BENCHMARK = Benchmark(
    "textvqa",
    title="TextVQA",
    measures="text in photographs",
    paper="https://huggingface.co/papers/1904.08920",
    files="annotations JSON, images, OCR tokens JSON for LLaVA's prompt",
    protocol="soft accuracy against ten people",
    computed_by="M4C, LLaVA, lmms-eval",
    read=read_textvqa,
    metric=TextVQA,
    any_case=True,
)
