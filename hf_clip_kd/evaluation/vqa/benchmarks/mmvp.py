"""MMVP: pairs of photographs that CLIP takes for equal, and a question whose answer differs between them."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import numpy as np

from hf_clip_kd.evaluation.vqa.benchmarks.base import Benchmark
from hf_clip_kd.evaluation.vqa.benchmarks.letters import options_by_letter, said_answer
from hf_clip_kd.evaluation.vqa.bootstrap import weighted_mean
from hf_clip_kd.evaluation.vqa.files import (
    OPTION_LETTER,
    Sample,
    Source,
    check_ids,
    check_images,
    image_path,
    options_text,
)
from hf_clip_kd.evaluation.vqa.metric import VQAMetric

_COLUMNS = ["Question", "Options", "Correct Answer"]
_OPTIONS = re.compile(r"\s*\(a\)(.*)\(b\)(.*)", re.IGNORECASE | re.DOTALL)
# Two pairs have their labels swapped in the published file; lmms-eval has turned them round.
_SWAPPED = (99, 100, 279, 280)
_LETTERS = (
    r"^\(?([AB])\)?\.?$",
    r"^\(?([AB])\)?[.\s]",
    r"answer\s+is\s+\(?([AB])\)?",
    r"option\s+\(?([AB])\)?",
    r"\(?([AB])\)?(?:\s|$)",
    r"^([AB])",
)


def read_letter(text: str) -> str:
    """Read A or B as lmms-eval does, in any case; `""` if there is neither. The first pattern that fits decides."""
    found = (re.search(pattern, text, re.IGNORECASE) for pattern in _LETTERS)
    return next((match[1].upper() for match in found if match), "")


class MMVP(VQAMetric):
    """
    Pairs with both questions right ([MMVP](https://huggingface.co/papers/2401.06209)).

    `pair_accuracy` is the number that papers quote, 1/4 by chance. `accuracy` is over single questions. Questions
    1 and 2 are a pair, 3 and 4 are, and so on, in the order of the file. The bootstrap draws pairs.

    Protocols:
        llava: an answer is the letter or the text of the option, in any case, behind "answer is" if that is there
            (Cambrian-1). The authors' script asks GPT-4 instead.
        lmms_eval: the letter as [`read_letter`] finds it. `read_mmvp` turns round four labels, as lmms-eval has.
    """

    benchmark = "mmvp"
    reference_fields = ("answers", "choices")
    main_metric = "pair_accuracy"
    unit = "pair"

    def units(self, references, images=()):
        pairs = list(zip(references[::2], references[1::2], strict=False))
        if len(references) % 2 or any(first["choices"] != second["choices"] for first, second in pairs):
            raise ValueError(
                f"The {len(references)} questions of MMVP are no pairs. Each two must follow one another and have the "
                "same options. Score whole pairs in the order of the file: `read_mmvp('Questions.csv')`."
            )
        return np.arange(len(references)) // 2

    def judge(self, predictions, references, protocol, seed):
        units = self.units(references)
        read = _right_by_cambrian if protocol == "llava" else _right_by_lmms
        pairs = zip(predictions, references, strict=True)
        scores = np.array([float(read(text, reference)) for text, reference in pairs])
        both = (np.bincount(units, scores) == 2)[units].astype(float)

        def summary(weights):
            return {"accuracy": weighted_mean(scores, weights), "pair_accuracy": weighted_mean(both, weights)}

        return scores, summary


def _right_by_cambrian(text: str, reference: dict) -> bool:
    letter = reference["answers"][0]
    option = options_by_letter(reference["choices"]).get(letter, letter)
    said = said_answer(text).rstrip(".:,").lstrip("(").rstrip(")")
    return said in (letter.lower(), option.lower())


def _right_by_lmms(text: str, reference: dict) -> bool:
    return read_letter(text) == reference["answers"][0]


def read_mmvp(questions: str | Path, image_folder: str | Path | None = None, protocol: str = "llava") -> list[Sample]:
    """
    Read MMVP's `Questions.csv`.

    Args:
        questions (`str` or `Path`):
            Rows of a number, `Question`, `Options` such as `(a) Open (b) Closed`, and `Correct Answer`, `(a)` or
            `(b)`. The heading of the first column is `lndex` in the published file.
        image_folder (`str` or `Path`, *optional*):
            `MMVP Images`, with `NUMBER.jpg`.
        protocol (`str`, *optional*, defaults to `"llava"`):
            `"lmms_eval"` turns round the answers to 99, 100, 279 and 280, which are wrong in the file.

    Returns:
        `list[Sample]` in the order of the file. The prompt is the question, the options and [`OPTION_LETTER`].

    Raises:
        ValueError: if the file, a field, a pair or the first image is missing.
    """
    form = f"It must be MMVP's Questions.csv, with a number, {', '.join(_COLUMNS)}."
    source = Source(questions, form, "read_mmvp('MMVP/Questions.csv', 'MMVP/MMVP Images')")
    try:
        heading, *rows = [row for row in csv.reader(io.StringIO(source.text())) if row] or [[]]
    except csv.Error as error:
        raise source.error(f"it is no table of commas ({error})") from error
    if heading[1:] != _COLUMNS:
        raise source.error(f"its columns are {heading}")
    samples = []
    for i, row in enumerate(rows):
        where = f"question {i}"
        named = dict(zip(["number", *_COLUMNS], row, strict=False))
        number, *texts = source.fields(named, where, number=int, **dict.fromkeys(_COLUMNS, str))
        question, options, answer = texts
        letter, found = answer.strip(" ()").upper(), _OPTIONS.fullmatch(options)
        if found is None or letter not in ("A", "B"):
            raise source.error(f"the options are {options!r} and the answer {answer!r}, not (a) or (b)", where)
        if protocol == "lmms_eval" and number in _SWAPPED:
            letter = "B" if letter == "A" else "A"
        choices = tuple(text.strip() for text in found.groups())
        prompt = f"{question}\n{options_text(choices)}{OPTION_LETTER}"
        samples.append(Sample(number, image_path(image_folder, f"{number}.jpg"), prompt, (letter,), choices))
    return check_images(check_ids(samples, source), image_folder, source)


BENCHMARK = Benchmark(
    "mmvp",
    title="MMVP",
    measures="details that CLIP does not tell apart, in pairs of images",
    paper="https://huggingface.co/papers/2401.06209",
    files="Questions.csv, images",
    protocol="pairs with both letters right",
    computed_by="pairs: the authors; letters: Cambrian-1, lmms-eval",
    read=read_mmvp,
    metric=MMVP,
)
