"""AI2D: multiple choice about diagrams of school books."""

from __future__ import annotations

import re
import string
from pathlib import Path

import numpy as np

from hf_clip_kd.evaluation.vqa.benchmarks.base import Benchmark
from hf_clip_kd.evaluation.vqa.benchmarks.letters import cambrian_letter
from hf_clip_kd.evaluation.vqa.bootstrap import means_by_category
from hf_clip_kd.evaluation.vqa.files import OPTION_LETTER, Sample, Source, check_images, options_text
from hf_clip_kd.evaluation.vqa.metric import VQAMetric
from hf_clip_kd.evaluation.vqa.parquet import parquet_rows, picture_bytes, stored_picture

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_LETTER_AND_PERIOD = re.compile(r"\s*([A-Z])\.")


def lone_letter(text: str) -> str:
    """Read the letter as lmms-eval does in AI2D: `A.` at the start, or else the text without punctuation."""
    found = _LETTER_AND_PERIOD.match(text)
    return (found[1] if found else text).translate(_NO_PUNCTUATION).upper()


class AI2D(VQAMetric):
    """
    Multiple choice ([AI2D](https://huggingface.co/papers/1603.07396)).

    Protocols:
        llava: the letter as [`cambrian_letter`] reads it.
        lmms_eval: the letter as [`lone_letter`] reads it.
    """

    benchmark = "ai2d"

    def judge(self, predictions, references, protocol, seed):
        read = cambrian_letter if protocol == "llava" else lone_letter
        pairs = zip(predictions, references, strict=True)
        scores = np.array([float(read(text) == reference["answers"][0]) for text, reference in pairs])
        return scores, means_by_category(scores, [""] * len(scores))


def read_ai2d(questions: str | Path, image_folder: str | Path) -> list[Sample]:
    """
    Read AI2D's test split from the parquet files of lmms-eval, as most papers since 2024 do.

    In these, letters lie on the words of a diagram that a question asks for by letter (3,088 questions).

    Args:
        questions (`str` or `Path`):
            A file, or a folder of `test*.parquet`, with `image`, `question`, `options` and `answer`. That is the
            position of the right option, from 0.
        image_folder (`str` or `Path`):
            Folder to which the images are written.

    Returns:
        `list[Sample]` in the order of the files, with the position as `question_id`. The prompt is the question, the
        options and [`OPTION_LETTER`].

    Raises:
        ValueError: if a file, a field or an image is missing.
    """
    whole = Source(questions, "It must be a parquet file of AI2D, or a folder of them.", "read_ai2d('ai2d', 'images')")
    samples = []
    for source, where, row in parquet_rows(whole, "test*.parquet"):
        question, choices, answer = source.fields(row, where, question=str, options=list[str], answer=int)
        if not 0 <= answer < len(choices):
            raise source.error(f"`answer` is {answer}, and there are {len(choices)} options from 0", where)
        image = stored_picture(picture_bytes(source, row, "image", where), image_folder)
        prompt = f"{question}\n{options_text(choices)}{OPTION_LETTER}"
        samples.append(Sample(len(samples), image, prompt, (chr(ord("A") + answer),), tuple(choices)))
    return check_images(samples, None, whole)


BENCHMARK = Benchmark(
    "ai2d",
    title="AI2D",
    measures="diagrams of school books, multiple choice",
    paper="https://huggingface.co/papers/1603.07396",
    files="test*.parquet",
    protocol="letter of the option",
    computed_by="Cambrian-1, lmms-eval",
    read=read_ai2d,
    metric=AI2D,
)
