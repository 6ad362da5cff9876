"""Soft accuracy: an answer counts fully when at least three of the other people gave it."""

from __future__ import annotations

from collections.abc import Sequence

from .normalize import normalize_m4c, normalize_vqav2, process_punctuation, strip_breaks

# Number of answers to a question of VQAv2, TextVQA and VizWiz.
_PEOPLE = 10
# Three of the others can agree.
_FEWEST = 4


def soft_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """
    Return the mean over leave-one-out sets of `min(1, matches / 3)` ([VQA](https://huggingface.co/papers/1505.00468)).

    If `m` of `n` answers equal the prediction, `m` sets have `m - 1` matches and the others `m`:
    `(m * min(1, (m - 1) / 3) + (n - m) * min(1, m / 3)) / n`. For `n = 10` it is 0, 0.3, 0.6, 0.9, 1, ...
    """
    n, m = len(answers), sum(answer == prediction for answer in answers)
    return (m * min(1, max(0, m - 1) / 3) + (n - m) * min(1, m / 3)) / n


def agreement(prediction: str, answers: Sequence[str]) -> float:
    """
    Return [`soft_accuracy`], or the share of equal answers if there are fewer than four.

    The benchmarks have ten answers, and the official scorer takes no other number. Your own data may have one. Then
    nobody has three others who could agree, and a prediction that equals every answer would not score 1.
    """
    if len(answers) < _FEWEST:
        return sum(answer == prediction for answer in answers) / len(answers)
    return soft_accuracy(prediction, answers)


def official(prediction: str, answers: Sequence[str]) -> float:
    """
    Score as the VQA scorer published since March 2021.

    Both sides are normalised with [`normalize_vqav2`], but only if the people disagree. If all ten gave one answer,
    the prediction must equal it exactly. That rule is of the ten: other numbers of answers are always normalised.
    """
    answers, prediction = [strip_breaks(answer) for answer in answers], strip_breaks(prediction)
    if len(set(answers)) > 1 or len(answers) != _PEOPLE:
        answers, prediction = [normalize_vqav2(answer) for answer in answers], normalize_vqav2(prediction)
    return agreement(prediction, answers)


def official_2016(prediction: str, answers: Sequence[str]) -> float:
    """
    Score as the VQA scorer published until March 2021, which most reimplementations still have.

    The prediction is always normalised with [`normalize_vqav2`]. The people's answers only lose their punctuation, and
    only if they disagree. Other numbers of answers than ten are normalised as the prediction is.
    """
    if len(answers) != _PEOPLE:
        answers = [normalize_vqav2(answer) for answer in answers]
    elif len(set(answers)) > 1:
        answers = [process_punctuation(answer) for answer in answers]
    return agreement(normalize_vqav2(prediction), answers)


def llava(prediction: str, answers: Sequence[str]) -> float:
    """Score LLaVA's submission, [`normalize_m4c`] of the prediction, with [`official`]; without ten answers, both."""
    if len(answers) != _PEOPLE:
        return both_m4c(prediction, answers)
    return official(normalize_m4c(prediction), answers)


def both_vqav2(prediction: str, answers: Sequence[str]) -> float:
    """Score with [`normalize_vqav2`] always on both sides: VQAv2 in lmms-eval."""
    return agreement(normalize_vqav2(prediction), [normalize_vqav2(answer) for answer in answers])


def both_m4c(prediction: str, answers: Sequence[str]) -> float:
    """Score with [`normalize_m4c`] always on both sides: TextVQA everywhere, VizWiz in lmms-eval."""
    return agreement(normalize_m4c(prediction), [normalize_m4c(answer) for answer in answers])
