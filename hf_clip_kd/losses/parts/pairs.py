"""Pairs of a student's layer with a teacher's layer, as options of a loss name them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..features import PROJECTOR, Layer
from .numbers import is_finite


class LayerPair(NamedTuple):
    """
    An entry of the student's `hidden_states`, the teacher's entry that it imitates, and the weight of both.

    The teacher's may be `"projector"`: what the projector of its LLaVA makes of its tokens.
    """

    layer: int
    teacher_layer: Layer
    weight: float = 1.0


def layer_pairs(
    loss: str, layer: int, teacher_layer: Layer, pairs: Sequence[Sequence[Any]] | None
) -> tuple[LayerPair, ...]:
    """
    Return the pairs that a loss compares: `pairs`, or the only pair of `layer` and `teacher_layer`.

    Args:
        loss (`str`): Name of the loss, for the error.
        layer (`int`), teacher_layer (`int` or `str`): Options for a single pair.
        pairs (`Sequence`, *optional*): Pairs such as `[-2, -2]`, or with a weight, `[-2, -2, 0.5]`.

    Raises:
        ValueError: if `pairs` are none.
    """
    if pairs is None:
        return (LayerPair(layer, teacher_layer),)
    if not isinstance(pairs, list | tuple) or not pairs or not all(map(_is_pair, pairs)):
        raise ValueError(
            f"pairs={pairs!r} are no layers of the loss {loss!r}. Allowed is a list of [student's layer, teacher's "
            f"layer] or [student's layer, teacher's layer, weight]: integers, for the teacher's also {PROJECTOR!r}, "
            f"and a weight above 0. Write for example `losses={{{loss!r}: {{'pairs': [[-2, -2], [-4, -8, 0.5]]}}}}`."
        )
    return tuple(LayerPair(*pair) for pair in pairs)


def _is_pair(pair: Any) -> bool:
    if not isinstance(pair, list | tuple) or len(pair) not in (2, 3) or type(pair[0]) is not int:
        return False
    if type(pair[1]) is not int and pair[1] != PROJECTOR:
        return False
    return all(is_finite(weight) and weight > 0 for weight in pair[2:])
