"""Scores of the graded types of question alone, where a study leaves some types out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from statistics import mean
from typing import Any

import numpy as np

from ...recipe_io.learning_curve import area
from .metrics import QUESTION_LISTS, SINGLE, main_scores


def type_counts(records: list[dict[str, Any]]) -> Counter[str]:
    """Return the number of questions of each type, of the first record that knows the types."""
    return next((Counter(record["vqa_types"]) for record in records if record.get("vqa_types")), Counter())


def graded(record: dict[str, Any], ungraded: Mapping[str, str], counts: Mapping[str, int]) -> dict[str, Any]:
    """
    Return a cell or tower whose VQA and question probe are those of the graded types.

    The scores of the types themselves all stay.

    Args:
        record (`dict`): Has some of `vqa`, `curve`, `representation`, and the lists of single questions.
        ungraded (`Mapping[str, str]`): Type to the reason to leave it out.
        counts (`Mapping[str, int]`): Questions of each type, the weights of the mean. Without any they are equal.
    """
    if not ungraded:
        return record
    found = dict(record)
    found["vqa"] = _mean_of_types(record.get("vqa") or {}, SINGLE, "{kind}/{name}", ungraded, counts)
    if kept := [value for kind, value in main_scores(found["vqa"]).items() if kind not in ungraded]:
        found["vqa"]["accuracy"] = mean(kept) / 100
    if record.get("curve"):
        found["curve"] = _curve(record["curve"], ungraded, counts)
    if "vqa" in (record.get("representation") or {}):
        probe = _mean_of_types(
            record["representation"]["vqa"], ("question_probe",), "{name}/{kind}", ungraded, counts={}
        )
        found["representation"] = record["representation"] | {"vqa": probe}
    if types := record.get("vqa_types"):
        keep = [kind not in ungraded for kind in types]
        for name in QUESTION_LISTS:
            if record.get(name) is not None:
                found[name] = [value for value, kept in zip(record[name], keep, strict=True) if kept]
    else:  # No single question can be left out, and all of them have another mean.
        found |= {name: None for name in QUESTION_LISTS if name in record}
    return found


def _mean_of_types(block, names, form, ungraded, counts) -> dict[str, float]:
    """Return the block with the means of `names` over its graded types; `form` is that of a type's key."""
    found = dict(block)
    for name in names:
        before, after = form.format(kind="\0", name=name).split("\0")
        kinds = {
            key.removeprefix(before).removesuffix(after): value
            for key, value in block.items()
            if key.startswith(before) and key.endswith(after) and value is not None
        }
        if kept := {kind: value for kind, value in kinds.items() if kind not in ungraded and "/" not in kind}:
            weights = [counts.get(kind, 1) for kind in kept]
            found[name] = float(np.average(list(kept.values()), weights=weights))
    return found


def _curve(curve, ungraded, counts) -> dict[str, Any]:
    kept = {kind: scores for kind, scores in (curve.get("types") or {}).items() if kind not in ungraded}
    found = curve | {"area": dict(curve["area"])}
    for name in SINGLE:
        rows = {kind: scores[name] for kind, scores in kept.items() if scores.get(name)}
        if rows:
            weights = [counts.get(kind, 1) for kind in rows]
            found[name] = np.average(list(rows.values()), axis=0, weights=weights).tolist()
            found["area"][name] = area(curve["steps"], found[name])
    return found
