"""Questions that need the picture: those that a blind model answers right can be left out."""

from __future__ import annotations

from typing import Any

import numpy as np

from .metrics import QUESTION_LISTS, SINGLE


def needs_picture(record: dict[str, Any]) -> np.ndarray:
    """
    Return which questions the blind model does not answer right, `(questions,)` of bool.

    The mean of its scores over its VLM seeds and language models decides. Above a half, it answers the question right.

    Args:
        record (`dict`): The content of `study.json`.

    Raises:
        ValueError: The study has no blind model with single questions.
    """
    scores = [
        tower["vqa_correct"]
        for tower in record.get("towers") or []
        if tower["kind"] == "reference" and tower["name"] == "blind" and tower.get("vqa_correct")
    ]
    if not scores:
        raise ValueError(
            "`leave_out_blind=true` leaves out what a blind model answers right, and this study holds no answers of "
            "such a model. It needs a reference `blind` and a benchmark with single questions. Write "
            "`references: {blind: null}` into its YAML and run it again, or set `leave_out_blind` to false."
        )
    return np.mean(scores, axis=0) <= 0.5


def restricted(block: dict[str, Any], keep: np.ndarray) -> dict[str, Any]:
    """
    Return a cell or tower whose VQA numbers are those of some questions. Its learning curve stays as it is.

    Args:
        block (`dict`): Has `vqa` and, for each question, some of `vqa_correct`, `vqa_bits`, `vqa_images`, `vqa_types`.
            Without `vqa_correct` its VQA numbers are removed, as they are of all questions.
        keep (`np.ndarray` of shape `(questions,)`): Which questions count.

    Raises:
        ValueError: Its accuracy is not the mean over its questions, or it has another number of questions.
    """
    correct = block.get("vqa_correct")
    if not correct:
        return block | {"vqa": {}}
    if len(correct) != len(keep) or not np.isclose(np.mean(correct), block["vqa"].get("accuracy", np.nan)):
        raise ValueError(
            f"`leave_out_blind=true` cannot be done: a score of this study is not the mean over {len(keep)} single "
            "questions. It must be one benchmark whose questions each score 0 to 1. Set `leave_out_blind` to false."
        )
    lists = {name: np.array(block[name])[keep] for name in QUESTION_LISTS if block.get(name)}
    metrics = {}
    for metric, name in SINGLE.items():
        if name in lists:
            metrics[metric] = float(lists[name].mean())
            for kind in dict.fromkeys(lists.get("vqa_types", np.array([])).tolist()):
                metrics[f"{kind}/{metric}"] = float(lists[name][lists["vqa_types"] == kind].mean())
    return block | {name: values.tolist() for name, values in lists.items()} | {"vqa": metrics}


def without_blind(record: dict[str, Any], cells: list[dict[str, Any]]) -> tuple[dict, list[dict], str]:
    """
    Leave out the questions that the blind model answers right, of all cells, teachers and references.

    The oracle is known by its mean only, so its score stays that of all questions.

    Returns:
        `tuple[dict, list[dict], str]`: `study.json`, the cells, and a sentence that counts the questions.

    Raises:
        ValueError: See [`needs_picture`] and [`restricted`]; or the blind model answers all questions right.
    """
    keep = needs_picture(record)
    if not keep.any():
        raise ValueError(
            f"`leave_out_blind=true` leaves no question: the blind model answers all {len(keep)} right. One question "
            "at least must need its picture. Ask other questions, or set `leave_out_blind` to false."
        )
    towers = [restricted(tower, keep) for tower in record["towers"]]
    references = {tower["name"]: tower["vqa"] for tower in reversed(towers) if tower["kind"] == "reference"}
    record = record | {
        "towers": towers,
        "teachers": {name: restricted(teacher, keep) for name, teacher in record["teachers"].items()},
        "references": (record.get("references") or {}) | references,
    }
    said = (
        f"**{len(keep) - keep.sum()} of {len(keep)} questions are left out**, as the language model answers them "
        f"right without a picture. All VQA numbers are of the other {keep.sum()}. But learning curves and the oracle "
        "are of all questions."
    )
    return record, [restricted(cell, keep) for cell in cells], said
