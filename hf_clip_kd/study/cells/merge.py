"""Means of records: of one tower with several seeds of the language model, or between two lengths of training."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

# Parts that a VLM's seed changes. All others are those of the tower, and the first record has them.
MEASURED = ("vqa", "vqa_correct", "vqa_bits", "vqa_tables", "curve", "seconds")
TOWER = ("student", "representation")


def averaged(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the first record with the means of all parts that the VLM's seed changes."""
    first = records[0]
    if len(records) == 1:
        return first
    return first | {name: _mean([record.get(name) for record in records]) for name in MEASURED if name in first}


def merged(records: Iterable[dict[str, Any]], key: Callable[[dict], Any]) -> list[dict[str, Any]]:
    """Return a mean of each group of records that have the same key, in the order of their first."""
    groups: dict[Any, list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return [averaged(group) for group in groups.values()]


def blended(first: dict[str, Any], second: dict[str, Any], share: float) -> dict[str, Any]:
    """
    Return the first record with numbers between both, as of a training whose length lies between theirs.

    Args:
        share (`float`): Place between both, from 0 for the first to 1 for the second.
    """
    weights = [1 - share, share]
    parts = [name for name in (*TOWER, *MEASURED) if name in first]
    return first | {name: _mean([first[name], second.get(name)], weights) for name in parts}


def _mean(values: list[Any], weights: list[float] | None = None) -> Any:
    """Return the mean of numbers, lists or mappings of them; of a part that only some have, `None`."""
    if all(value == values[0] for value in values):
        return values[0]
    if any(value is None for value in values):
        return None
    if isinstance(values[0], dict):
        return {key: _mean([value.get(key) for value in values], weights) for key in values[0]}
    if len({np.shape(value) for value in values}) > 1:
        return None
    mean = np.average(values, axis=0, weights=weights)
    return mean.tolist() if np.ndim(mean) else float(mean)
