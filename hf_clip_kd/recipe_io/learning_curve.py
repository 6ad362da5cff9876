"""Numbers that a learning curve comes down to: its area, and the steps to a score."""

from __future__ import annotations

import math
from collections.abc import Sequence

CURVE_NAME = "learning_curve.json"


def area(steps: Sequence[int], scores: Sequence[float]) -> float:
    """
    Return the mean of a score over the logarithm of the steps.

    The area under the curve by the trapezoidal rule is divided by its width. So it has the unit of the score, and
    each doubling of the steps counts alike. A single point gives its score.

    Args:
        steps (`Sequence[int]`): Optimizer steps, positive and rising.
        scores (`Sequence[float]`): Score at each of them.
    """
    at = [math.log(step) for step in steps]
    if len(at) == 1:
        return scores[0]
    parts = [(at[i + 1] - at[i]) * (scores[i] + scores[i + 1]) / 2 for i in range(len(at) - 1)]
    return sum(parts) / (at[-1] - at[0])


def steps_to(
    steps: Sequence[int], scores: Sequence[float], score: float, *, lower_is_better: bool = False
) -> float | None:
    """
    Return the number of steps after which a run first has a score.

    The curve between two points is a line over the logarithm of the steps. A score that the first point has gives its
    steps, which are then an upper bound.

    Args:
        steps (`Sequence[int]`): Optimizer steps, positive and rising.
        scores (`Sequence[float]`): Score at each of them.
        score (`float`): Score to reach.
        lower_is_better (`bool`, *optional*, defaults to `False`): `True` for losses and bits.

    Returns:
        `float`, or `None` if the run never has the score.
    """
    sign = -1 if lower_is_better else 1
    for i, value in enumerate(scores):
        if sign * value >= sign * score:
            if i == 0:
                return float(steps[0])
            share = (score - scores[i - 1]) / (value - scores[i - 1])
            return steps[i - 1] * (steps[i] / steps[i - 1]) ** share
    return None
