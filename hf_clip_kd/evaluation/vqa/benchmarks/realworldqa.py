"""RealWorldQA: places and traffic in photographs, many of them from cars."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hf_clip_kd.evaluation.vqa.benchmarks.base import Benchmark
from hf_clip_kd.evaluation.vqa.benchmarks.letters import lmms_letter, said_answer
from hf_clip_kd.evaluation.vqa.bootstrap import means_by_category
from hf_clip_kd.evaluation.vqa.files import Sample, Source, check_images
from hf_clip_kd.evaluation.vqa.metric import VQAMetric, categories_of
from hf_clip_kd.evaluation.vqa.parquet import parquet_rows, picture_bytes, stored_picture

_LETTERS = ("A", "B", "C", "D")
_CHOICE, _OPEN = "choice", "open"


def first_word(text: str) -> str:
    """Return the first word behind "answer is" or "answer:" in lower case, without periods at the end of the text."""
    return next(iter(said_answer(text).rstrip(".").split()), "")


class RealWorldQA(VQAMetric):
    """
    Exact match ([RealWorldQA](https://x.ai/blog/grok-1.5v)), overall, of letters (`choice`) and of words (`open`).

    Protocols:
        llava: the first word, in any case, behind "answer is" if that is there (Cambrian-1).
        lmms_eval: the letter that [`lmms_letter`] finds. Other answers must be equal in any case, periods at the end
            aside.
    """

    benchmark = "realworldqa"
    reference_fields = ("answers", "category")

    def judge(self, predictions, references, protocol, seed):
        right = _right_by_cambrian if protocol == "llava" else _right_by_lmms
        pairs = zip(predictions, references, strict=True)
        scores = np.array([float(right(text, reference["answers"][0])) for text, reference in pairs])
        return scores, means_by_category(scores, categories_of(references))


def _right_by_cambrian(text: str, answer: str) -> bool:
    return first_word(text) == answer.lower()


def _right_by_lmms(text: str, answer: str) -> bool:
    answer = answer.strip()
    if answer.upper() in _LETTERS:
        return lmms_letter(text) == answer.upper()
    return text.lower().rstrip(".") == answer.lower()


def read_realworldqa(questions: str | Path, image_folder: str | Path) -> list[Sample]:
    """
    Read RealWorldQA's parquet files.

    Args:
        questions (`str` or `Path`):
            A file or a folder of them, with `image`, `question` and `answer`.
        image_folder (`str` or `Path`):
            Folder to which the images are written.

    Returns:
        `list[Sample]` in the order of the files, with the position as `question_id`. The prompt is the question,
        which has its options and its ending. The category is `choice` or `open`.

    Raises:
        ValueError: if a file, a field or an image is missing.
    """
    call = "read_realworldqa('RealWorldQA', 'images')"
    whole = Source(questions, "It must be a parquet file of RealWorldQA, or a folder of them.", call)
    samples = []
    for source, where, row in parquet_rows(whole, "test*.parquet"):
        question, answer = source.fields(row, where, question=str, answer=str)
        image = stored_picture(picture_bytes(source, row, "image", where), image_folder)
        kind = _CHOICE if answer.strip().upper() in _LETTERS else _OPEN
        samples.append(Sample(len(samples), image, question.strip(), (answer,), category=kind))
    return check_images(samples, None, whole)


BENCHMARK = Benchmark(
    "realworldqa",
    title="RealWorldQA",
    measures="places and traffic in photographs",
    paper="https://x.ai/blog/grok-1.5v",
    files="test*.parquet",
    protocol="letter of the option, or exact match",
    computed_by="Cambrian-1, lmms-eval",
    read=read_realworldqa,
    metric=RealWorldQA,
    any_case=True,
)
