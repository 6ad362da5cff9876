"""Scores of conditions by seed and question, and the estimates that are made of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..cells.cells import Study
from ..cells.metrics import Metric
from .statistics import Estimate, contrast


@dataclass(frozen=True)
class Outcomes:
    """Scores that can be compared seed by seed, and question by question."""

    scores: np.ndarray = field(
        metadata={"help": "`(conditions, seeds, questions)`, shares in per cent. A mean counts as one question."}
    )
    images: np.ndarray = field(metadata={"help": "`(questions,)`: number of each question's image."})


def outcomes(conditions: Iterable[list[dict[str, Any]]], metric: Metric) -> Outcomes:
    """
    Return the scores of the seeds that all conditions share.

    VQA accuracy and bits have single questions if all cells kept them and their mean is the score. Several benchmarks
    have another score, so they and other metrics have one mean for each cell. Cells without numbers of images count
    each question as an image of its own.
    """
    by_seed = [{cell["axes"]["seed"]: cell for cell in cells if metric.of(cell) is not None} for cells in conditions]
    seeds = sorted(set.intersection(*(set(cells) for cells in by_seed)))
    chosen = [[cells[seed] for seed in seeds] for cells in by_seed]
    means = np.array([[[metric.of(cell)] for cell in cells] for cells in chosen], float).reshape(len(by_seed), -1, 1)
    single = questions([cell for cells in chosen for cell in cells], metric)
    if single is None:
        return Outcomes(means, np.zeros(1, int))
    scores, images = single
    return Outcomes(scores.reshape(*means.shape[:2], -1), images)


def questions(cells: Sequence[dict[str, Any]], metric: Metric) -> tuple[np.ndarray, np.ndarray] | None:
    """
    Return the scores of single questions, `(cells, questions)`, and the numbers of their images, `(questions,)`.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: `None` if the metric has no single questions, or their mean is not the score.
        Also `None` if the cells were asked different questions.
    """
    found = [cell.get(metric.single) or () for cell in cells] if metric.single else []
    count = len(found[0]) if found else 0
    if not count or {len(scores) for scores in found} != {count}:
        return None
    scores = (100 if metric.percent else 1) * np.array(found, float)
    if not np.allclose(scores.mean(axis=1), [metric.of(cell) for cell in cells]):
        return None
    images = {tuple(cell["vqa_images"]) for cell in cells if cell.get("vqa_images")}
    if len(images) > 1 or {len(numbers) for numbers in images} - {count}:
        return None
    return scores, np.array(images.pop() if images else range(count))


def estimate(conditions: Iterable[list[dict[str, Any]]], metric: Metric, weights: Sequence[float]) -> Estimate | None:
    """Return a weighted sum of the conditions' means ([`contrast`]), or `None` if they share no seed."""
    found = outcomes(conditions, metric)
    return contrast(found.scores, weights, images=found.images) if found.scores.size else None


def drawn_units(study: Study, metric: Metric) -> str | None:
    """Return a sentence on what the bootstrap draws besides seeds, or `None` without single questions."""
    cells = [cell for cell in study.cells if metric.single and cell.get(metric.single)]
    if not cells:
        return None
    if images := next((cell["vqa_images"] for cell in cells if cell.get("vqa_images")), None):
        return (
            f"The {len(images)} questions are about {len(set(images))} images. An image is drawn with its questions."
        )
    return (
        "This study has not kept which questions are about the same image. So each counts as an image of its own, and "
        "the intervals may be too narrow."
    )
