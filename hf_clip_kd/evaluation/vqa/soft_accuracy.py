"""Soft accuracy: an answer counts fully when at least three of the other nine people gave it."""

from __future__ import annotations

from collections.abc import Sequence

from .normalize import normalize_m4c, normalize_vqav2, process_punctuation, strip_breaks


def soft_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """
    Mean over the leave-one-out sets of `min(1, matches / 3)` ([VQA](https://huggingface.co/papers/1505.00468)).

    With `m` of `n` answers equal to the prediction, `m` sets have `m - 1` matches and the others `m`:
    `(m * min(1, (m - 1) / 3) + (n - m) * min(1, m / 3)) / n`. Of ten: 0, 0.3, 0.6, 0.9, 1, ...
    """
    n, m = len(answers), sum(answer == prediction for answer in answers)
    return (m * min(1, max(0, m - 1) / 3) + (n - m) * min(1, m / 3)) / n


def official(prediction: str, answers: Sequence[str]) -> float:
    """
    The VQA scorer as published since March 2021: both sides are normalised with [`normalize_vqav2`], but only where
    the people disagree. Where all gave one answer the prediction must equal it as it stands.
    """
    answers, prediction = [strip_breaks(answer) for answer in answers], strip_breaks(prediction)
    if len(set(answers)) > 1:
        answers, prediction = [normalize_vqav2(answer) for answer in answers], normalize_vqav2(prediction)
    return soft_accuracy(prediction, answers)


def official_2016(prediction: str, answers: Sequence[str]) -> float:
    """
    The VQA scorer as published until March 2021, which most reimplementations carry: the prediction is always
    normalised with [`normalize_vqav2`], of the people's answers only the punctuation, and only where they disagree.
    """
    if len(set(answers)) > 1:
        answers = [process_punctuation(answer) for answer in answers]
    return soft_accuracy(normalize_vqav2(prediction), answers)


def llava(prediction: str, answers: Sequence[str]) -> float:
    """What LLaVA submits, [`normalize_m4c`] of the prediction, scored by [`official`]."""
    return official(normalize_m4c(prediction), answers)


def both_vqav2(prediction: str, answers: Sequence[str]) -> float:
    """[`normalize_vqav2`] on both sides, always: VQAv2 in lmms-eval."""
    return soft_accuracy(normalize_vqav2(prediction), [normalize_vqav2(answer) for answer in answers])


def both_m4c(prediction: str, answers: Sequence[str]) -> float:
    """[`normalize_m4c`] on both sides, always: TextVQA everywhere, VizWiz in lmms-eval."""
    return soft_accuracy(normalize_m4c(prediction), [normalize_m4c(answer) for answer in answers])
