"""Exact match with any of the accepted answers."""

from __future__ import annotations

from collections.abc import Sequence


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """Return 1 if the prediction is an accepted answer, else 0. Case and periods at the end do not count."""
    return float(plain(prediction) in map(plain, answers))


def plain(text: str) -> str:
    """Return a text in lower case, without white space at its ends and periods at its end."""
    return text.strip().rstrip(".").lower()
