"""Numbers that a study's YAML names for its tables, where the mean over its data sets would mix unlike ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .metrics import IMAGE_RETRIEVAL, METRICS, TEXT_RETRIEVAL, ZERO_SHOT, Metric


def headline_of(record: Mapping[str, Any]) -> dict[str, str]:
    """Return title -> key in `student`, as the YAML has it. The first is what a report calls zero-shot accuracy."""
    return record["config"].get("headline") or {}


def headline_metrics(record: Mapping[str, Any]) -> tuple[Metric, ...]:
    """Return the columns of the tables: those of every study, or the named ones in place of their first three."""
    named = [Metric(title, ("student",), key) for title, key in headline_of(record).items()]
    replaced = (ZERO_SHOT, IMAGE_RETRIEVAL, TEXT_RETRIEVAL)
    first = (ZERO_SHOT, *named[1:]) if named else replaced
    return (*first, *(metric for metric in METRICS if metric not in replaced))


def with_headline(block: dict[str, Any], headline: Mapping[str, str]) -> dict[str, Any]:
    """
    Return a cell or teacher whose zero-shot accuracy is the first number of the headline.

    Raises:
        ValueError: The cell has scores, and not those of the headline.
    """
    scores = block.get("student")
    if not headline or not scores:
        return block
    unknown = [key for key in headline.values() if key not in scores]
    if unknown:
        raise ValueError(
            f"`headline` names {unknown}, which this study has not measured. It must map titles to scores of its "
            f"cells: {', '.join(scores)}. Correct it in the study's YAML."
        )
    return block | {"student": scores | {ZERO_SHOT.key: scores[next(iter(headline.values()))]}}
