"""ANLS: how near a text is to the accepted answers, forgiving errors of reading."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hf_clip_kd.evaluation.vqa.bootstrap import means_by_category
from hf_clip_kd.evaluation.vqa.metric import Summary, categories_of

# A text with less than half in common is another answer, not a misread one.
_THRESHOLD = 0.5


def edit_distance(first: str, second: str) -> int:
    """Count the insertions, deletions and replacements of characters that turn a text into the other (Levenshtein)."""
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, start=1):
        corner, row[0] = row[0], i
        for j, b in enumerate(second, start=1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (a != b))
    return row[-1]


def anls(prediction: str, answers: Sequence[str]) -> float:
    """
    Return the normalised Levenshtein similarity to the nearest answer, or 0 below one half.

    [Biten et al. 2019](https://huggingface.co/papers/1905.13648), as the script of the
    [DocVQA challenge](https://rrc.cvc.uab.es/?ch=17) has it. The distance is of texts in lower case with single
    spaces. The length that divides it is that of the longer raw text.
    """
    shortest = 1.0
    for answer in answers:
        distance = edit_distance(_plain(answer), _plain(prediction))
        # The script takes the length in upper case, in which some letters are two.
        length = max(len(answer.upper()), len(prediction.upper()))
        shortest = min(shortest, distance / length if length else 0.0)
    return 1 - shortest if 1 - shortest >= _THRESHOLD else 0.0


def judge_anls(predictions: list[str], references: list[dict]) -> tuple[np.ndarray, Summary]:
    """Return the scores of a metric of ANLS, and its means by category, called `anls`."""
    pairs = zip(predictions, references, strict=True)
    scores = np.array([anls(text, reference["answers"]) for text, reference in pairs])
    return scores, means_by_category(scores, categories_of(references), "anls")


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
