"""Soft accuracy: an answer counts fully when at least three of the other nine people gave it."""

from __future__ import annotations

from collections.abc import Sequence

from .normalize import normalize_m4c, normalize_vqav2, process_punctuation, strip_breaks


def soft_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """
    Return the mean over leave-one-out sets of `min(1, matches / 3)` ([VQA](https://huggingface.co/papers/1505.00468)).

    If `m` of `n` answers equal the prediction, `m` sets have `m - 1` matches and the others `m`:
    `(m * min(1, (m - 1) / 3) + (n - m) * min(1, m / 3)) / n`. For `n = 10` it is 0, 0.3, 0.6, 0.9, 1, ...
    """
    n, m = len(answers), sum(answer == prediction for answer in answers)
    return (m * min(1, max(0, m - 1) / 3) + (n - m) * min(1, m / 3)) / n


def official(prediction: str, answers: Sequence[str]) -> float:
    """
    Score as the VQA scorer published since March 2021.

    Both sides are normalised with [`normalize_vqav2`], but only if the people disagree. If all gave one answer, the
    prediction must equal it exactly.
    """
    answers, prediction = [strip_breaks(answer) for answer in answers], strip_breaks(prediction)
    if len(set(answers)) > 1:
        answers, prediction = [normalize_vqav2(answer) for answer in answers], normalize_vqav2(prediction)
    return soft_accuracy(prediction, answers)


def official_2016(prediction: str, answers: Sequence[str]) -> float:
    """
    Score as the VQA scorer published until March 2021, which most reimplementations still have.

    The prediction is always normalised with [`normalize_vqav2`]. The people's answers only lose their punctuation, and
    only if they disagree.
    """
    if len(set(answers)) > 1:
        answers = [process_punctuation(answer) for answer in answers]
    return soft_accuracy(normalize_vqav2(prediction), answers)


def llava(prediction: str, answers: Sequence[str]) -> float:
    """Score LLaVA's submission, [`normalize_m4c`] of the prediction, with [`official`]."""
    return official(normalize_m4c(prediction), answers)


def both_vqav2(prediction: str, answers: Sequence[str]) -> float:
    """Score with [`normalize_vqav2`] always on both sides: VQAv2 in lmms-eval."""
    return soft_accuracy(normalize_vqav2(prediction), [normalize_vqav2(answer) for answer in answers])


def both_m4c(prediction: str, answers: Sequence[str]) -> float:
    """Score with [`normalize_m4c`] always on both sides: TextVQA everywhere, VizWiz in lmms-eval."""
    return soft_accuracy(normalize_m4c(prediction), [normalize_m4c(answer) for answer in answers])
